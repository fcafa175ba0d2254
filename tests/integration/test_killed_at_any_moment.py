"""kill -9 at random moments, saves included: every restart finds a whole checkpoint, and nothing shows at the end.

A power cut is another matter (what was flushed counts then); a killed process's writes are the kernel's already.
"""

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from flamingo_ds.checkpoint.names import complete_checkpoints
from flamingo_ds.checkpoint.store import Checkpoint, find_checkpoint

from .. import killing
from .conftest import Road

KILLS = 32
STEPS, SAVE_EVERY, KEEP_LAST, KEEP_EVERY = 180, 3, 2, 60
# What depends on the clock and on memory, not on the training.
MEASURED = ("tokens_per_s", "images_per_s", "memory_gb")
LIFE_SECONDS = 500.0


def start(road: Road, run: Path, *more: str) -> BaseProcess:
    arguments = ["--recipe", str(road.recipe), f"run_dir={run}", f"train.max_steps={STEPS}", "train.precision=fp32"]
    arguments += [f"train.save_every={SAVE_EVERY}", "data.datasets.pairs.micro_batch_size=4"]
    return killing.start(killing.train, [*arguments, "--resume", *more], road.folder / f"{run.name}.txt")


def finish(process: BaseProcess, road: Road, run: Path) -> None:
    process.join(LIFE_SECONDS)
    assert process.exitcode == 0, (road.folder / f"{run.name}.txt").read_text()


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def steps_done(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def unfinished(run: Path) -> set[int]:
    """Folders that are being written or deleted, or were when their process died, by inode: they change their names."""
    folder = run / "checkpoints"
    found = set()
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if entry.name.endswith((".partial", ".removing")):
            with contextlib.suppress(FileNotFoundError):
                found.add(entry.inode())
    return found


def wait_until(true: Callable[[], object], process: BaseProcess) -> None:
    deadline = time.monotonic() + LIFE_SECONDS
    while not true():
        assert process.is_alive(), "ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def wait_for_new_folder(run: Path, seen: set[int], process: BaseProcess) -> None:
    wait_until(lambda: unfinished(run) - seen, process)
    seen |= unfinished(run)


def kill_at_a_random_moment(draw: random.Random, run: Path, process: BaseProcess) -> bool:
    """In one of three kinds of moments, each with a delay of its own; whether it was within a save."""
    old = unfinished(run)
    kind = draw.choice(["starting", "training", "saving", "saving"])
    if kind == "starting":
        time.sleep(draw.uniform(0.0, 0.8))
    elif kind == "training":
        before, more = steps_done(run), draw.randint(1, 4)
        # A start takes the lines of lost steps out first, so wait for the count to change at all.
        wait_until(lambda: steps_done(run) not in range(before - SAVE_EVERY * 2, before + more), process)
        time.sleep(draw.uniform(0.0, 0.05))
    else:
        # The second one begins when the first is whole: so the run gets on, however slow the machine is.
        seen = set(old)
        for _ in range(draw.randint(1, 2)):
            wait_for_new_folder(run, seen, process)
        time.sleep(draw.uniform(0.0, 0.06))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "ended by itself"
    return bool(unfinished(run) - old)


def assert_same_state(found: Checkpoint, expected: Checkpoint) -> None:
    ours, theirs = found.state(), expected.state()
    assert ours.keys() == theirs.keys()
    for name, parts in theirs.items():
        for kind, tensor in parts.items():
            assert torch.equal(ours[name][kind], tensor), f"step {found.step}: {name} {kind}"


@pytest.fixture(scope="module")
def whole(road: Road) -> Path:
    """The run that is never killed; it keeps all its checkpoints."""
    run = road.folder / "never-killed"
    finish(start(road, run), road, run)
    assert list(complete_checkpoints(run / "checkpoints")) == list(range(SAVE_EVERY, STEPS + 1, SAVE_EVERY))
    return run


def test_killed_runs_end_as_the_one_that_was_not(road: Road, whole: Path) -> None:
    draw, run = random.Random(20), road.folder / "killed"
    began, chosen, within_save = time.monotonic(), [0], 0
    keeping = (f"train.keep_last={KEEP_LAST}", f"train.keep_every={KEEP_EVERY}")
    for _ in range(KILLS):
        within_save += kill_at_a_random_moment(draw, run, start(road, run, *keeping))
        found = find_checkpoint(run / "checkpoints", "")
        if found is not None:
            assert_same_state(found, Checkpoint(whole / "checkpoints" / f"step-{found.step:08d}"))
        chosen.append(found.step if found is not None else 0)
    assert chosen == sorted(chosen)  # never back behind a checkpoint that was chosen before
    # Else the kills would have missed what they are about.
    assert within_save >= 8
    assert len(set(chosen)) >= 5
    finish(start(road, run, *keeping), road, run)
    print(f"{KILLS} kills in {time.monotonic() - began:.0f} s, {within_save} within a save; restarts from {chosen}")

    assert metrics(run) == metrics(whole)
    last = Checkpoint(run / "checkpoints/latest")
    assert last.step == STEPS
    assert_same_state(last, Checkpoint(whole / "checkpoints/latest"))
    expected = sorted({*range(KEEP_EVERY, STEPS, KEEP_EVERY), STEPS - SAVE_EVERY, STEPS})
    assert sorted(os.listdir(run / "checkpoints")) == ["latest", *(f"step-{step:08d}" for step in expected)]
