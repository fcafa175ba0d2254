"""The command line on every road between layouts: stopped and resumed, and carried from one layout to another.

The launcher itself starts what is stopped by Ctrl-C. Other ranks are forked with the variables that a launcher sets,
which pays the imports once; from ``main`` on they are the same.
"""

import json
import os
import re
import signal
import socket
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from flamingo_ds.checkpoint.store import Checkpoint
from flamingo_ds.config import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED

from .. import killing
from .conftest import Road
from .test_stop_and_resume import DEEPSPEED, PATIENCE, ROOT, finish, load_kind, metrics, start, wait_for_steps

KINDS = ("weight", "exp_avg", "exp_avg_sq", "reference")
ZERO3 = ("--deepspeed_config", str(ROOT / "ds_configs/zero3.json"))
PIPELINE = ("parallel.pipeline_stages=2",)
SHARDED = (*PIPELINE, "parallel.shard_frozen=true")
TWO_STAGES = (*PIPELINE, "train.max_steps=12", "train.save_every=100")
FP32 = ("train.precision=fp32", "train.max_steps=6", "train.save_every=2")
TO_TEN = (*FP32, *SHARDED, "train.max_steps=10")
# As in tests/distributed, where every layout is measured against plain PyTorch.
LOSS, WEIGHT = 1e-6, 4e-6


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launcher(road: Road, run: Path, *more: str) -> list[str]:
    ports = ["--num_gpus", "2", "--master_port", str(free_port())]
    recipe = ["--recipe", str(road.recipe), f"run_dir={run}", *TWO_STAGES, *more]
    return [str(DEEPSPEED), *ports, "--module", "flamingo_ds.train", *recipe]


def start_ranks(road: Road, run: Path, ranks: int, more: Sequence[str]) -> list[BaseProcess]:
    """A run's ranks; what they print goes beside its folder."""
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    arguments = ["--recipe", str(road.recipe), f"run_dir={run}", *more]
    output = run.with_suffix(".txt")
    output.write_text("")
    return [
        killing.start(killing.train, arguments, output, {"RANK": str(rank), "LOCAL_RANK": str(rank), **shared})
        for rank in range(ranks)
    ]


def end_ranks(processes: list[BaseProcess], run: Path, code: int = EXIT_DONE) -> str:
    for process in processes:
        process.join(PATIENCE)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    output = run.with_suffix(".txt").read_text()
    assert codes == [code] * len(processes), output
    return output


def train(road: Road, name: str, ranks: int, *more: str) -> Path:
    """A whole run in a folder of its own."""
    run = road.folder / "layouts" / name
    run.parent.mkdir(exist_ok=True)
    end_ranks(start_ranks(road, run, ranks, more), run)
    return run


def go_on(road: Road, name: str, ranks: int, before: Path, step: int, *more: str) -> Path:
    """From another run's checkpoint, in a folder of its own."""
    return train(road, name, ranks, "--resume", str(before / f"checkpoints/step-{step:08d}"), *more)


def about(run: Path, step: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / f"checkpoints/step-{step:08d}/checkpoint.json").read_text())
    return content


def losses(run: Path) -> list[list[float]]:
    return [[line[name] for name in ("loss", "loss/pairs", "loss/pages", "grad_norm")] for line in metrics(run)]


def assert_identical(run: Path, whole: Path) -> None:
    assert metrics(run) == metrics(whole)
    for kind in KINDS:
        ours, theirs = (load_kind(path / "checkpoints/latest", kind) for path in (run, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), kind


def assert_same(run: Path, whole: Path, after: int, to: int) -> None:
    """Steps behind ``after`` have the losses of the unchanged run, and the checkpoint of step ``to`` its weights."""
    for step, (ours, theirs) in enumerate(
        zip(losses(run)[: to - after], losses(whole)[after:to], strict=True), start=after + 1
    ):
        assert ours == pytest.approx(theirs, rel=LOSS), f"step {step}"
    ours, theirs = (load_kind(path / f"checkpoints/step-{to:08d}", "weight") for path in (run, whole))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        difference = (ours[name] - tensor).abs().max().item()
        assert difference <= WEIGHT, f"{name}: {difference}"


@pytest.fixture(scope="module")
def pipeline(road: Road) -> Path:
    """Two stages in bf16, never stopped."""
    return train(road, "pipeline", 2, *TWO_STAGES)


@pytest.fixture(scope="module")
def one_data_rank(road: Road) -> Path:
    """ZeRO-1 in one process."""
    return train(road, "zero1-on-1", 1, *FP32)


@pytest.fixture(scope="module")
def two_data_ranks(road: Road) -> Path:
    """ZeRO-3 on two ranks."""
    return train(road, "zero3-on-2", 2, *FP32, *ZERO3)


@pytest.fixture(scope="module")
def sharded(road: Road, two_data_ranks: Path) -> Path:
    """Two stages x two replicas, frozen weights sharded, from step 2 of ZeRO-3 on."""
    return go_on(road, "sharded", 4, two_data_ranks, 2, *TO_TEN)


def test_interrupted_pipeline_goes_on_bit_for_bit(road: Road, pipeline: Path) -> None:
    run = road.folder / "stopped-pipeline"
    process = start(launcher(road, run))
    wait_for_steps(run, 2)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    stopped = json.loads((run / "checkpoints/latest/checkpoint.json").read_text())["step"]
    assert 2 <= stopped < 12, output
    assert "flamingo_ds/" not in output.replace(str(run), ""), output
    assert "stopped on SIG" in output, output
    output = finish(launcher(road, run, "--resume"))
    assert_identical(run, pipeline)
    # What a user reads: the launcher's lines, DeepSpeed's on the device, and ours.
    assert not [line for line in output.splitlines() if not line.startswith(("[", "step ", "saved "))], output


def test_four_sharded_ranks_of_which_one_is_asked_to_stop(road: Road, two_data_ranks: Path, sharded: Path) -> None:
    """The last rank alone hears the signal, all stop behind the same step, and go on as the run that never stopped."""
    run = road.folder / "layouts" / "stopped-sharded"
    first = ("--resume", str(two_data_ranks / "checkpoints/step-00000002"))
    processes = start_ranks(road, run, 4, (*first, *TO_TEN))
    wait_for_steps(run, 1)
    assert processes[3].pid is not None
    os.kill(processes[3].pid, signal.SIGUSR1)
    output = end_ranks(processes, run, EXIT_STOPPED)
    assert "stopped on the signal of another rank; go on with --resume" in output
    assert 3 <= Checkpoint(run / "checkpoints/latest").step < 10
    end_ranks(start_ranks(road, run, 4, ("--resume", *TO_TEN)), run)
    assert_identical(run, sharded)


def test_one_process_and_a_pipeline_of_two_are_the_same_run(road: Road, one_data_rank: Path) -> None:
    there = go_on(road, "there", 2, one_data_rank, 2, *FP32, *PIPELINE, "train.max_steps=4")
    assert_same(there, one_data_rank, after=2, to=4)
    back = go_on(road, "back", 1, there, 4, *FP32)
    assert_same(back, one_data_rank, after=4, to=6)


def test_zero3_on_two_and_two_stages_by_two_replicas_are_the_same_run(
    road: Road, two_data_ranks: Path, sharded: Path
) -> None:
    assert_same(sharded, two_data_ranks, after=2, to=6)
    assert "Warning" not in sharded.with_suffix(".txt").read_text()
    back = go_on(road, "back-2", 2, sharded, 4, *FP32, *ZERO3)
    assert_same(back, two_data_ranks, after=4, to=6)


def test_a_run_that_changes_its_layout_three_times(road: Road, two_data_ranks: Path) -> None:
    """ZeRO-3 on 2 -> two stages -> ZeRO-1 on 1 -> two stages x two replicas: other orders of data, one training."""
    road_of_layouts = [
        (2, PIPELINE, "pipeline of 2 stages x data 1, ZeRO-1", 1),
        (1, (), "ZeRO-1 on 1 ranks", 1),
        (4, PIPELINE, "pipeline of 2 stages x data 2, ZeRO-1", 2),
    ]
    names = load_kind(two_data_ranks / "checkpoints/step-00000002", "weight").keys()
    assert about(two_data_ranks, 2)["layout"] == "ZeRO-3 on 2 ranks"
    run, step, seen = two_data_ranks, 2, [line[0] for line in losses(two_data_ranks)[:2]]
    for ranks, arguments, layout, data_ranks in road_of_layouts:
        run = go_on(road, f"road-{step}", ranks, run, step, *FP32, *arguments, f"train.max_steps={step + 2}")
        step += 2
        found = about(run, step)
        assert [found[key] for key in ("step", "layout", "ranks", "data_ranks")] == [step, layout, ranks, data_ranks]
        assert load_kind(run / f"checkpoints/step-{step:08d}", "weight").keys() == names
        seen += [line[0] for line in losses(run)]
    assert [line["step"] for line in metrics(run)] == [7, 8]
    # Falls from step to step of this small training, whose samples differ little, and never jumps.
    assert all(later < earlier for earlier, later in pairwise(seen)), seen


def test_a_killed_rank_ends_the_others_with_a_reason(road: Road) -> None:
    run = road.folder / "layouts" / "killed"
    processes = start_ranks(road, run, 2, (*PIPELINE, "train.max_steps=1000", "train.save_every=1000"))
    wait_for_steps(run, 2)
    processes[1].kill()
    processes[0].join(30)
    assert processes[0].exitcode == EXIT_FAILED
    output = run.with_suffix(".txt").read_text()
    assert re.search(r"this was rank 0 at step \d+ in .*; a connection broke, so another rank has ended", output), (
        output
    )
    assert "a connection broke" in (run / "logs/rank-0000.log").read_text()
