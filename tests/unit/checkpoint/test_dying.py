"""A save's process dies before every single operation on the file system; what is chosen then, and what comes after."""

import os
import shutil

import pytest

from flamingo_ds.checkpoint.names import complete_checkpoints
from flamingo_ds.checkpoint.retention import Retention
from flamingo_ds.checkpoint.store import find_checkpoint
from tests import killing
from tests.saving import save, value_of

from . import dying

KEEP_TWO = Retention(keep_last=2)


@pytest.mark.parametrize(
    ("before", "step", "kept"),
    [
        pytest.param([], 1, [1, 5], id="first"),
        pytest.param([1, 2], 3, [3, 5], id="next-and-one-outdated"),
        # A run that went on from an earlier checkpoint comes to a step that is there already, and that is the latest.
        pytest.param([1, 2], 2, [2, 5], id="replacing-the-latest"),
        # And one whose latest is another.
        pytest.param([3, 1], 3, [3, 5], id="replacing-another"),
    ],
)
def test_whenever_a_save_dies_the_right_checkpoint_is_chosen(alone, tmp_path, before, step, kept):
    start = tmp_path / "start"
    start.mkdir()
    for earlier in before:
        save(start, earlier, float(earlier))
    old = float(before[-1]) if before else None
    new, folder = 100.0, tmp_path / "checkpoints"
    values = []
    for at in range(1, 300):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder, symlinks=True)
        process = killing.start(dying.save_and_die, folder, step, new, KEEP_TWO, at)
        process.join(60)
        assert process.exitcode in (0, dying.DIED)
        found = find_checkpoint(folder, "")
        values.append(None if found is None else value_of(found.path))
        assert values[-1] in (old, new), at
        for path in complete_checkpoints(folder).values():
            value_of(path)  # a half-deleted one must not look whole either
        # The next run's save sweeps all that was left.
        save(folder, 5, 5.0, KEEP_TWO)
        chosen = find_checkpoint(folder, "")
        assert (chosen.path.name, value_of(chosen.path)) == ("step-00000005", 5.0)
        left = {name for name in os.listdir(folder) if not name.startswith("step-0000000")}
        assert left == {"latest"}, at
        assert all(name.count(".") == 0 for name in os.listdir(folder)), at
        if process.exitcode == 0:
            break
    # Once the new one is chosen it stays so, and it takes more than one operation to get there.
    turn = values.index(new)
    assert set(values[:turn]) == {old}
    assert set(values[turn:]) == {new}
    assert turn > 20
    assert len(values) > turn + 1 or not before
    assert process.exitcode == 0
    assert sorted(os.listdir(folder)) == ["latest", *(f"step-{number:08d}" for number in kept)]
