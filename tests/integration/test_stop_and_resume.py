"""The deepspeed launcher, two ranks, ZeRO-3: a run that is stopped and resumed is the run that never stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flamingo_ds.config import EXIT_HALTED, EXIT_STOPPED

from .conftest import Road

ROOT = Path(__file__).parents[2]
DEEPSPEED = Path(sys.executable).parent / "deepspeed"
# What depends on the clock and on memory, not on the training.
MEASURED = ("tokens_per_s", "images_per_s", "memory_gb")
# Far more than any run here takes, also on a machine with other work; below pytest's own limit.
PATIENCE = 500.0


def command(road: Road, *more: str) -> list[str]:
    zero3 = ["--deepspeed_config", str(ROOT / "ds_configs/zero3.json")]
    # A port of our own: other tests and other people use 29500.
    launcher = [str(DEEPSPEED), "--num_gpus", "2", "--master_port", str(20000 + os.getpid() % 10000)]
    return [*launcher, "--module", "flamingo_ds.train", "--recipe", str(road.recipe), *zero3, *more]


def start(arguments: Sequence[str]) -> "subprocess.Popen[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{DEEPSPEED.parent}:{os.environ['PATH']}"}
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(arguments: Sequence[str]) -> str:
    process = start(arguments)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, output
    return output


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def load_kind(checkpoint: Path, kind: str) -> dict[str, torch.Tensor]:
    """All files of a kind, as anyone could read them."""
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted([*checkpoint.glob(f"{kind}-*.safetensors"), *checkpoint.glob(f"{kind}.safetensors")]):
        tensors |= load_file(file)
    return tensors


def ends(run: Path) -> list[dict[str, object]]:
    """What rank 0 wrote down of its starts and ends."""
    return [json.loads(line) for line in (run / "logs/rank-0000.ends").read_text().splitlines()]


def wait_for_steps(run: Path, steps: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        path = run / "metrics.jsonl"
        if path.exists() and path.read_text().count("\n") >= steps:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {steps} steps in {PATIENCE} s")


@pytest.fixture(scope="module")
def whole(road: Road) -> Path:
    run = road.folder / "whole"
    output = finish(command(road, f"run_dir={run}"))
    assert "step 30/30" in output
    for step in (10, 20, 30):
        said = rf"saved {run}/checkpoints/step-000000{step} in \d+\.\d s; training stood still for \d+\.\d\d s"
        assert len(re.findall(said, output)) == 1, output
    return run


def test_metrics_have_a_line_a_step_with_the_stable_names(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 31))
    expected = {"step", "loss", "loss/pairs", "loss/pages", "lr", "grad_norm", *MEASURED}
    expected |= {f"gate/{block}/{kind}" for block in range(3) for kind in ("attn", "ffw")}
    assert expected <= lines[-1].keys()
    assert lines[-1]["loss"] < lines[0]["loss"]
    names = [f"rank-000{rank}.{kind}" for rank in range(2) for kind in ("ends", "log")]
    assert sorted(path.name for path in (whole / "logs").iterdir()) == names
    assert json.loads((whole / "finished").read_text()) == {"step": 30}
    assert (whole / "checkpoints/latest").resolve().name == "step-00000030"


def test_resuming_a_finished_run_says_so_and_changes_nothing(road: Road, whole: Path) -> None:
    before = metrics(whole)
    assert "nothing to do: step 30 of 30 is done" in finish(command(road, f"run_dir={whole}", "--resume"))
    assert metrics(whole) == before


def test_interrupt_saves_and_the_resumed_run_is_the_same_bit_for_bit(road: Road, whole: Path) -> None:
    run = road.folder / "stopped"
    process = start(command(road, f"run_dir={run}"))
    wait_for_steps(run, 3)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C on a terminal: the launcher and all ranks get it
    output, _ = process.communicate(timeout=PATIENCE)
    stopped = json.loads((run / "checkpoints/latest/checkpoint.json").read_text())["step"]
    assert 3 <= stopped < 30, output
    # DeepSpeed 0.19.8's launcher answers Ctrl-C with a traceback and an exit code of its own; none of it may be ours,
    # and it sends its ranks a SIGTERM on top.
    assert "flamingo_ds/" not in output.replace(str(run), ""), output
    assert "stopped on SIG" in output, output
    finish(command(road, f"run_dir={run}", "--resume"))
    assert metrics(run) == metrics(whole)
    for kind in ("weight", "exp_avg", "exp_avg_sq", "reference"):
        ours, theirs = (load_kind(path / "checkpoints/latest", kind) for path in (run, whole))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), kind


def test_another_number_of_ranks_goes_on(road: Road, whole: Path) -> None:
    """Two ranks under ZeRO-3, then one process under ZeRO-1: the step and the data's position are found again."""
    run = road.folder / "fewer"
    shutil.copytree(whole, run, symlinks=True)
    arguments = ["--recipe", str(road.recipe), f"run_dir={run}", "train.max_steps=32", "--resume"]
    finish([sys.executable, "-m", "flamingo_ds.train", *arguments])
    assert metrics(run)[:30] == metrics(whole)
    assert [line["step"] for line in metrics(run)[30:]] == [31, 32]
    (state,) = (run / "checkpoints/latest/data").glob("*.json")
    pairs = json.loads(state.read_text())["mixture"]["datasets"]["pairs"]
    assert pairs["bad"]["seen"] == 32 * 4  # of both ranks of the first run, and of this one's steps


def test_a_single_process_stops_with_exit_code_85(road: Road) -> None:
    run = road.folder / "single"
    process = start([sys.executable, "-m", "flamingo_ds.train", "--recipe", str(road.recipe), f"run_dir={run}"])
    wait_for_steps(run, 1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == EXIT_STOPPED, output
    assert "stopped on SIGTERM; go on with --resume" in output
    assert "Traceback" not in output, output
    end = ends(run)[-1]
    assert (end["event"], end["code"], end["signal"]) == ("end", EXIT_STOPPED, "SIGTERM")
    assert end["step"] == metrics(run)[-1]["step"]


def test_the_kill_switch_ends_a_run_for_good(road: Road) -> None:
    run = road.folder / "halted"
    arguments = [sys.executable, "-m", "flamingo_ds.train", "--recipe", str(road.recipe), f"run_dir={run}", "--resume"]
    process = start(arguments)
    wait_for_steps(run, 1)
    (run / "stop").touch()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == EXIT_HALTED, output
    assert f"stopped by {run}/stop; remove it to go on with --resume" in output
    saved = (run / "checkpoints/latest").resolve().name
    assert saved == f"step-{metrics(run)[-1]['step']:08d}"
    again = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (EXIT_HALTED, "")
    assert again.stderr == f"error: run_dir = '{run}': expected no file stop in it; remove it to go on\n"
    assert not (run / "finished").exists()
    assert [end["code"] for end in ends(run) if end["event"] == "end"] == [EXIT_HALTED]


def test_a_mistake_ends_the_launcher_with_exit_code_2_and_one_line(road: Road) -> None:
    process = start(command(road, f"run_dir={road.folder / 'never'}", "data.datasets.pairs.batch_size=5"))
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, output
    said = [line for line in output.splitlines() if line.startswith("error:")]
    assert said == ["error: data.datasets.pairs.batch_size = 5: expected a multiple of the 2 ranks"]
    assert not (road.folder / "never").exists()
