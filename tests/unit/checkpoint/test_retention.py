import logging
import os

import pytest

from flamingo_ds.checkpoint import retention as module
from flamingo_ds.checkpoint.retention import Retention, clear_away, tidy_names
from tests.saving import save, value_of


@pytest.mark.parametrize(
    ("keep_last", "keep_every", "steps", "gone"),
    [
        (None, None, [10, 20, 30, 40], []),
        (1, None, [10, 20, 30, 40], [10, 20, 30]),
        (2, None, [10, 20, 30, 40], [10, 20]),
        (4, None, [10, 20, 30, 40], []),
        (9, None, [10, 20, 30, 40], []),
        (1, 20, [10, 20, 30, 40], [10, 30]),
        (2, 20, [10, 20, 30, 40], [10]),
        (1, 7, [10, 20, 30, 40], [10, 20, 30]),
        # Steps of a run that this one left, behind the current one, neither go nor count.
        (1, None, [10, 40, 50, 60], [10]),
        (2, None, [10, 20, 40, 60], [10]),
        (1, None, [40], []),
    ],
)
def test_which_ones_go(keep_last, keep_every, steps, gone):
    assert Retention(keep_last, keep_every).outdated(steps, current=40) == gone


def test_only_what_is_ours_is_cleared(alone, tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step, float(step))
    for name in ("step-00000002.partial", "step-00000009.0a.removing", "step-00000003.old", "mine", "mine.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    tidy_names(tmp_path)
    left = os.listdir(tmp_path)
    assert {"step-00000001", "step-00000002", "step-00000003", "mine", "mine.partial"} <= set(left)
    assert not [name for name in left if name.startswith("step-") and name.endswith((".partial", ".old"))]
    clear_away(tmp_path, Retention(keep_last=1), 3)
    assert sorted(os.listdir(tmp_path)) == ["latest", "mine", "mine.partial", "step-00000003"]
    assert value_of(tmp_path / "latest") == 3.0


def test_a_half_replaced_checkpoint_is_put_back(alone, tmp_path):
    save(tmp_path, 1, 1.0)
    (tmp_path / "step-00000001").rename(tmp_path / "step-00000001.old")
    tidy_names(tmp_path)
    assert value_of(tmp_path / "latest") == 1.0
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-00000001"]


def test_what_cannot_be_removed_costs_a_warning_only(alone, tmp_path, monkeypatch, caplog):
    for step in (1, 2):
        save(tmp_path, step, float(step))

    def busy(path):
        if path.name == "step-00000001":
            raise OSError("device busy")
        return set_aside(path)

    set_aside = module.set_aside
    monkeypatch.setattr(module, "set_aside", busy)
    with caplog.at_level(logging.WARNING, "flamingo_ds"):
        save(tmp_path, 3, 3.0, Retention(keep_last=1))
    assert "step-00000001 could not be removed: device busy" in caplog.text
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-00000001", "step-00000003"]
    monkeypatch.undo()
    save(tmp_path, 4, 4.0, Retention(keep_last=1))
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-00000004"]
