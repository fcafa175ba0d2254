import pytest
import torch.distributed as dist

from flamingo_ds.launching.exit_record import ExitRecord
from flamingo_ds.launching.signals import StopRequest
from flamingo_ds.training.ends import WARNING_VARIABLE, Ends, lost_peer


@pytest.mark.parametrize(("warning", "seconds"), [(None, 10**6), ("", 10**6), ("30", 30.0), ("soon", 10**6)])
def test_a_save_in_time_is_not_talked_about(monkeypatch, warning, seconds):
    monkeypatch.delenv(WARNING_VARIABLE, raising=False)
    if warning is not None:
        monkeypatch.setenv(WARNING_VARIABLE, warning)
    assert Ends(StopRequest(), ExitRecord()).too_late(seconds) is None


def test_a_save_that_takes_longer_than_the_warning_is(monkeypatch):
    monkeypatch.setenv(WARNING_VARIABLE, "30")
    said = Ends(StopRequest(), ExitRecord()).too_late(45.2)
    assert said == (
        "warning: saving took 45 s, but the warning comes 30 s before the end: "
        "a stopped run would lose its last steps. Ask for an earlier one (--signal=B:USR1@90)"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("Timed out waiting 15000ms for recv operation to complete"), "another rank did not arrive"),
        (RuntimeError("Connection closed by peer [127.0.0.1]:1234"), "a connection broke, so another rank has ended"),
        (dist.DistNetworkError("recv failed"), "a connection broke, so another rank has ended"),
        (ValueError("a shape"), None),
    ],
)
def test_errors_that_another_rank_caused(error, expected):
    assert lost_peer(error) == expected
