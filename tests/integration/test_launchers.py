"""The scripts of launchers/ on one machine, two ranks: what a signal, a silent rank and a different launcher do.

SLURM's are in tests/slurm.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flamingo_ds.config import EXIT_DONE, EXIT_STOPPED
from flamingo_ds.launching.attempts import read_last
from flamingo_ds.launching.run_files import RunFiles
from flamingo_ds.launching.summary import summarise

from .conftest import Road

ROOT = Path(__file__).parents[2]
PATIENCE = 500.0
MPIRUN = shutil.which("mpirun")


def start(script: str, road: Road, run: Path, *more: str) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environment |= {"PYTHON": sys.executable, "RANKS_PER_NODE": "2", "OMP_NUM_THREADS": "1"}
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.Popen(
        [ROOT / "launchers" / script, "--recipe", road.recipe, f"run_dir={run}", *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]") -> str:
    try:
        return process.communicate(timeout=PATIENCE)[0]
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun's ranks are in sessions of their own, so it has to end them


def wait_for_a_step(run: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n")):
        assert process.poll() is None, end(process)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def process_of_rank(rank: int, run: Path) -> int:
    """The training process that a launcher gave this rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if f"RANK={rank}".encode() in environment and f"run_dir={run}".encode() in command:
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


def test_a_warning_to_torchrun_and_its_ranks_stops_the_ranks_alone(road: Road) -> None:
    run = road.folder / "warned"
    process = start("one_machine.sh", road, run, "train.max_steps=3000")
    wait_for_a_step(run, process)
    for number in (process.pid, process_of_rank(0, run), process_of_rank(1, run)):  # as scancel --signal=USR1 does
        os.kill(number, signal.SIGUSR1)
    output = end(process)
    # torchrun itself was not killed by it; of 85 it makes 1.
    assert process.returncode == 1, output
    assert "stopped on SIGUSR1; go on with --resume" in output
    ends = read_last(RunFiles(run))
    step = metrics(run)[-1]["step"]
    assert [(each.rank, each.code, each.signal, each.step) for each in ends] == [
        (rank, EXIT_STOPPED, "SIGUSR1", step) for rank in range(2)
    ]
    assert (run / "checkpoints/latest").resolve().name == f"step-{step:08d}"
    assert not (run / "finished").exists()
    assert ": stopped on a signal\n" in summarise(RunFiles(run))


def test_a_rank_that_falls_silent_is_named_when_the_time_is_over(road: Road) -> None:
    run = road.folder / "silent"
    process = start("one_machine.sh", road, run, "train.max_steps=3000", "parallel.timeout_s=20")
    wait_for_a_step(run, process)
    silent = process_of_rank(1, run)
    os.kill(silent, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + PATIENCE
        while read_last(RunFiles(run))[0].ended is None and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        os.kill(silent, signal.SIGKILL)
    output = end(process)
    assert process.returncode == 1, output
    first, second = read_last(RunFiles(run))
    assert (first.code, first.follows) == (1, True)
    assert f"another rank did not arrive in parallel.timeout_s: rank 1 on {second.node} not heard of for" in output
    page = summarise(RunFiles(run))
    assert f"worst rank     rank 1 on {second.node}: no word of an end; killed, or the node is gone" in page


@pytest.mark.skipif(MPIRUN is None and os.environ.get("REQUIRE_SLURM") != "1", reason="Open MPI is not installed")
def test_mpirun_trains_as_torchrun_does(road: Road) -> None:
    losses = []
    for script in ("mpirun.sh", "one_machine.sh"):
        run = road.folder / f"two-steps-{script}"
        process = start(script, road, run, "train.max_steps=2")
        output = end(process)
        assert process.returncode == EXIT_DONE, output
        assert json.loads((run / "finished").read_text()) == {"step": 2}
        losses.append([step["loss"] for step in metrics(run)])
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
