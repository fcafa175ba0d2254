"""Real training on the cluster: DeepSpeed over gloo between nodes, each with an address of its own.

A start costs ten seconds of imports a rank, so there are few runs, and each is stopped in several ways.
"""

import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from ..integration.conftest import Road, write_shards
from ..integration.test_layouts import KINDS, assert_same, train
from ..integration.test_stop_and_resume import load_kind, metrics
from ..tiny import write_tiny_backbones
from .cluster import Cluster, wait_until
from .job import Job

ZERO3 = ("--deepspeed_config", "ds_configs/zero3.json")
STEPS, EVENT_STEPS = 4, 40
# Of a collective; below the 300 s after which SLURM, here, gives up a node that does not answer, and above what
# building a model takes on a machine with much else to do.
TIMEOUT = 60
ABSENT = "did not arrive in parallel.timeout_s"
LAUNCHERS = {
    "srun": "launchers/srun.sh",
    "srun-pmix": "SLURM_MPI_TYPE=pmix launchers/srun.sh",
    "torchrun": "launchers/torchrun.sh",
    "deepspeed": "launchers/deepspeed.sh",
    "deepspeed-pdsh": "launchers/deepspeed_pdsh.sh",
    "mpirun": "launchers/mpirun.sh",
}
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # Open MPI wants to be sure
# What the machine has to import and compute before the first step, beside other tests.
PATIENCE = 900.0
pytestmark = pytest.mark.timeout(2 * PATIENCE)
Running = dict[str, "Future[Job]"]


@pytest.fixture(scope="module")
def road(slurm: Cluster) -> Road:
    folder = slurm.shared / "road"
    folder.mkdir()
    write_tiny_backbones(folder / "backbones")
    write_shards(folder)
    recipe = {
        "run_dir": f"{folder}/run",
        "model": {
            "language_model": {"source": f"{folder}/backbones/lm"},
            "vision_encoder": {"source": f"local-dir:{folder}/backbones/clip"},
            "resampler": {"depth": 1, "latents": 4, "heads": 2, "head_width": 16, "max_frames": 1},
            "gated_cross_attention": {"initial_gate": 0.5},
        },
        "data": {
            "datasets": {
                "pairs": {"format": "image_text", "shards": f"{folder}/pairs-*.tar", "batch_size": 8},
                "pages": {"format": "interleaved", "shards": f"{folder}/pages-*.tar", "batch_size": 8},
            }
        },
        "train": {"max_steps": STEPS, "precision": "fp32", "schedule": {"warmup_steps": 2}},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return Road(folder, path)


def submit(slurm: Cluster, road: Road, name: str, nodes: int, ranks: int, *more: str) -> Job:
    """A training on so many nodes."""
    counts = ["--nodes", str(nodes), "--gpus-per-node", "0", "--ranks-per-node", str(ranks)]
    fixed = [f"run_dir={road.folder}/{name}", "launch.preflight=none", "launch.max_restarts=0"]
    done = slurm.run("python3", "launchers/submit.py", "--recipe", str(road.recipe), *counts, *fixed, *more)
    found = re.search(r"^job (\d+)", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return Job(slurm, found[1], road.folder / name)


@pytest.fixture(scope="module")
def lanes() -> Iterator[ThreadPoolExecutor]:
    """Which run jobs to their end, three beside one another: with all at once the machine has no memory left."""
    with ThreadPoolExecutor(3) as pool:
        yield pool


@pytest.fixture(autouse=True, scope="module")
def running(slurm: Cluster, road: Road, lanes: ThreadPoolExecutor) -> Running:
    """All jobs of this file, as they will have ended; those that wait most come first."""
    runs = [go_through_events, pull_the_cable, run_on_four_nodes, run_a_pipeline]
    jobs = {run.__name__: lanes.submit(run, slurm, road) for run in runs}
    return jobs | {name: lanes.submit(launch_by, slurm, road, name) for name in LAUNCHERS}


def go_through_events(slurm: Cluster, road: Road) -> Job:
    steps = (f"train.max_steps={EVENT_STEPS}", "train.save_every=10")
    place = ("launch.nodelist=n[13-14]", "launch.partition=low", "launch.exclusive=true")
    run = submit(slurm, road, "events", 2, 1, *ZERO3, *steps, *place)
    run.reach(3, PATIENCE)
    slurm.run("scancel", "--batch", "--signal=USR1", run.number)
    run.reach(12, PATIENCE)
    above = ["--partition=high", "--exclusive", "--nodes=2", "--nodelist=n[13-14]", "--output=/dev/null"]
    slurm.run("sbatch", *above, "--wrap", "sleep 1")
    run.reach(24, PATIENCE)
    slurm.crash("n14")
    slurm.boot("n14")
    run.end("COMPLETED", restarts=3, patience=PATIENCE)
    return run


def pull_the_cable(slurm: Cluster, road: Road) -> Job:
    endless = (f"parallel.timeout_s={TIMEOUT}", "train.max_steps=100000", "train.save_every=100000")
    run = submit(slurm, road, "unplugged", 2, 1, *endless, "launch.nodelist=n[15-16]")
    run.reach(3, PATIENCE)
    slurm.cable("n16", plugged=False)
    # Plugged in before it is over, the run would go on.
    wait_until(lambda: ABSENT in run.everything(), "the time of a collective is over", PATIENCE)
    slurm.cable("n16", plugged=True)
    run.end("FAILED", code=1, patience=PATIENCE)
    return run


def run_on_four_nodes(slurm: Cluster, road: Road) -> Job:
    run = submit(slurm, road, "four-nodes", 4, 2, *ZERO3, "launch.nodelist=n[9-12]")
    run.end("COMPLETED", patience=PATIENCE)
    return run


def run_a_pipeline(slurm: Cluster, road: Road) -> Job:
    pipeline = ("parallel.pipeline_stages=2", "parallel.shard_frozen=true")
    run = submit(slurm, road, "pipeline", 2, 2, *pipeline, "launch.nodelist=n[9-10]")
    run.end("COMPLETED", patience=PATIENCE)
    return run


def launch_by(slurm: Cluster, road: Road, name: str) -> Job:
    """Two steps on two nodes, by a script of ``launchers/`` within a job."""
    path, first = road.folder / "launchers" / name, 1 + 2 * (list(LAUNCHERS).index(name) % 3)
    (path / "logs").mkdir(parents=True)
    training = ["--recipe", str(road.recipe), *ZERO3, f"run_dir={path}", "train.max_steps=2"]
    nodes = ["--nodes=2", f"--nodelist=n[{first}-{first + 1}]"]
    job = [*nodes, "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=16", f"--output={path}/logs/%j.log"]
    settings = {"PYTHON": sys.executable, "RANKS_PER_NODE": "1", **AS_ROOT}
    script = f"set -e; {LAUNCHERS[name]} {' '.join(training)}"
    number = slurm.run("sbatch", "--parsable", *job, "--wrap", script, **settings).stdout.strip()
    run = Job(slurm, number, path)
    run.end("COMPLETED", patience=PATIENCE)
    return run


@pytest.fixture(scope="module")
def two_ranks(road: Road) -> Path:
    """On this machine, never stopped."""
    return train(road, "two-ranks", 2, *ZERO3, f"train.max_steps={EVENT_STEPS}", "train.save_every=4")


def test_stopped_preempted_and_crashed_it_is_the_run_that_never_stopped(running: Running, two_ranks: Path) -> None:
    run = running["go_through_events"].result()
    assert "start 1: USR1: all ranks save and stop" in run.log
    assert metrics(run.path) == metrics(two_ranks)
    for kind in KINDS:
        ours, theirs = (load_kind(path / "checkpoints/latest", kind) for path in (run.path, two_ranks))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), kind


def test_zero3_on_four_nodes_is_the_run_of_one_machine(running: Running, road: Road) -> None:
    run = running["run_on_four_nodes"].result()
    assert_same(run.path, train(road, "eight-ranks", 8, *ZERO3), after=0, to=STEPS)
    said = run.rank_log(7)
    assert "ZeRO-3 on 8 ranks" in said, said


def test_a_pipeline_over_two_nodes_is_the_run_of_one_machine(running: Running, two_ranks: Path) -> None:
    run = running["run_a_pipeline"].result()
    assert_same(run.path, two_ranks, after=0, to=STEPS)
    assert "pipeline of 2 stages x data 2" in run.rank_log(0)


def test_a_pulled_cable_ends_in_a_timeout_that_says_where_it_hangs(running: Running) -> None:
    # Whose time is over first says it: a rank that was not heard of, or that all were, and cannot reach one another.
    said = rf"{re.escape(ABSENT)}: (.*rank [01] on n1[56]|.*the network between them is to blame)"
    assert re.search(said, running["pull_the_cable"].result().everything())


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_trains_the_same(running: Running, two_ranks: Path, name: str) -> None:
    job = running[name].result()
    found = metrics(job.path)
    assert [line["step"] for line in found] == [1, 2]
    assert [line["loss"] for line in found] == [line["loss"] for line in metrics(two_ranks)[:2]]
    assert (job.path / "finished").exists()
    assert sorted(path.name for path in job.path.glob(f"logs/{job.number}/*.ends"))[0].endswith("-0.ends")
