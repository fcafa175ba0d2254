from pathlib import Path

import pytest
import torch.distributed as dist

from flamingo_ds.launching.exit_record import ExitRecord
from flamingo_ds.launching.run_files import RunFiles
from flamingo_ds.launching.signals import StopRequest
from flamingo_ds.parallel import Launch, Watchdog
from flamingo_ds.training.ends import WARNING_VARIABLE, Ends, lost_peer, naming_absent

LATE = "another rank did not arrive in parallel.timeout_s: rank 3 on n2"
BROKEN = "a connection broke, so another rank has ended: see what it said"


@pytest.mark.parametrize(("warning", "seconds"), [(None, 10**6), ("", 10**6), ("30", 30.0), ("soon", 10**6)])
def test_a_save_in_time_is_not_talked_about(monkeypatch, warning, seconds):
    monkeypatch.delenv(WARNING_VARIABLE, raising=False)
    if warning is not None:
        monkeypatch.setenv(WARNING_VARIABLE, warning)
    assert Ends(StopRequest(), ExitRecord(), Path("logs")).too_late(seconds) is None


def test_a_save_that_takes_longer_than_the_warning_is(monkeypatch):
    monkeypatch.setenv(WARNING_VARIABLE, "30")
    said = Ends(StopRequest(), ExitRecord(), Path("logs")).too_late(45.2)
    assert said == (
        "warning: saving took 45 s, but the warning comes 30 s before the end: "
        "a stopped run would lose its last steps. Ask for an earlier one (--signal=B:USR1@90)"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("Timed out waiting 15000ms for recv operation to complete"), LATE),
        (dist.DistStoreError("wait timed out after 5000ms"), LATE),
        (RuntimeError("Connection closed by peer [127.0.0.1]:1234"), BROKEN),
        (dist.DistNetworkError("recv failed"), BROKEN),
        (ValueError("a shape"), None),
    ],
)
def test_errors_that_another_rank_caused(error, expected):
    assert lost_peer(error, lambda: "rank 3 on n2") == expected


def test_an_error_is_explained_once(tmp_path):
    record, watchdog = ExitRecord(), Watchdog(2, 4, 0.0, [].append, None)
    watchdog.at(7, "forward of pages")
    with pytest.raises(RuntimeError) as caught, Ends(StopRequest(), record, tmp_path).explained(watchdog):
        raise RuntimeError("Connection reset by peer")
    assert caught.value.__notes__ == [
        f"this was rank 2 at step 7 in forward of pages (entry 0); {BROKEN}, and the logs of all ranks in {tmp_path}"
    ]
    assert record.follows
    with pytest.raises(ZeroDivisionError), Ends(StopRequest(), mine := ExitRecord(), tmp_path).explained(watchdog):
        raise ZeroDivisionError
    assert not mine.follows


def test_ranks_that_never_came_are_named(tmp_path):
    files = RunFiles(tmp_path)
    for rank in (0, 1, 4):
        record = ExitRecord()
        record.begin(tmp_path, Launch(rank, rank, 6, "127.0.0.1", 20000), {})
        if rank == 4:
            record.end(1)
    launch = Launch(0, 0, 6, "127.0.0.1", 20000)
    with pytest.raises(dist.DistStoreError) as caught, naming_absent(files, launch):
        raise dist.DistStoreError("2/6 clients joined")
    assert caught.value.__notes__ == [f"did not start, or has ended, by {files.logs}: ranks 2-5"]
