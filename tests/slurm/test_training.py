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
# Of a collective; below the 300 s after which SLURM, here, gives up a node that does not answer. Building a model takes
# 45 s on a machine that has ten times more to do than it can.
TIMEOUT = 90
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
def on_four_nodes(slurm: Cluster, road: Road) -> Job:
    return submit(slurm, road, "four-nodes", 4, 2, *ZERO3, "launch.nodelist=n[9-12]")


@pytest.fixture(scope="module")
def in_a_pipeline(slurm: Cluster, road: Road) -> Job:
    pipeline = ("parallel.pipeline_stages=2", "parallel.shard_frozen=true")
    return submit(slurm, road, "pipeline", 2, 2, *pipeline, "launch.nodelist=n[9-10]")


@pytest.fixture(scope="module")
def aside() -> Iterator[ThreadPoolExecutor]:
    """For what has to happen while other jobs are waited for."""
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture(scope="module")
def through_events(slurm: Cluster, road: Road, aside: ThreadPoolExecutor) -> "Future[Job]":
    steps = (f"train.max_steps={EVENT_STEPS}", "train.save_every=10")
    place = ("launch.nodelist=n[13-14]", "launch.partition=low", "launch.exclusive=true")
    run = submit(slurm, road, "events", 2, 1, *ZERO3, *steps, *place)
    return aside.submit(send_events, slurm, run)


def send_events(slurm: Cluster, run: Job) -> Job:
    run.reach(3, PATIENCE)
    slurm.run("scancel", "--batch", "--signal=USR1", run.number)
    run.reach(12, PATIENCE)
    above = ["--partition=high", "--exclusive", "--nodes=2", "--nodelist=n[13-14]", "--output=/dev/null"]
    slurm.run("sbatch", *above, "--wrap", "sleep 1")
    run.reach(24, PATIENCE)
    slurm.crash("n14")
    slurm.boot("n14")
    return run


@pytest.fixture(scope="module")
def unplugged(slurm: Cluster, road: Road, aside: ThreadPoolExecutor) -> "Future[Job]":
    endless = (f"parallel.timeout_s={TIMEOUT}", "train.max_steps=100000", "train.save_every=100000")
    run = submit(slurm, road, "unplugged", 2, 1, *endless, "launch.nodelist=n[15-16]")
    return aside.submit(pull_the_cable, slurm, run, "n16")


def pull_the_cable(slurm: Cluster, run: Job, node: str) -> Job:
    run.reach(3, PATIENCE)
    slurm.cable(node, plugged=False)
    wait_until(lambda: "did not arrive" in run.everything(), f"the timeout\n{run.everything()}", PATIENCE)
    slurm.cable(node, plugged=True)
    return run


@pytest.fixture(scope="module")
def by_each_launcher(slurm: Cluster, road: Road) -> dict[str, Job]:
    """Two steps on two nodes, three jobs at a time."""
    jobs = {}
    for index, (name, command) in enumerate(LAUNCHERS.items()):
        path, first = road.folder / "launchers" / name, 1 + 2 * (index % 3)
        (path / "logs").mkdir(parents=True)
        training = ["--recipe", str(road.recipe), *ZERO3, f"run_dir={path}", "train.max_steps=2"]
        job = [
            "--nodes=2",
            "--ntasks-per-node=1",
            "--gpus-per-node=1",
            "--cpus-per-task=16",
            f"--nodelist=n[{first}-{first + 1}]",
        ]
        settings = {"PYTHON": sys.executable, "RANKS_PER_NODE": "1", **AS_ROOT}
        script = f"set -e; {command} {' '.join(training)}"
        number = slurm.run("sbatch", "--parsable", *job, f"--output={path}/logs/%j.log", "--wrap", script, **settings)
        jobs[name] = Job(slurm, number.stdout.strip(), path)
    return jobs


@pytest.fixture(scope="module")
def two_ranks(road: Road) -> Path:
    """On this machine, never stopped."""
    return train(road, "two-ranks", 2, *ZERO3, f"train.max_steps={EVENT_STEPS}", "train.save_every=4")


@pytest.fixture(autouse=True, scope="module")
def all_at_once(
    through_events: "Future[Job]",
    unplugged: "Future[Job]",
    in_a_pipeline: Job,
    on_four_nodes: Job,
    by_each_launcher: dict[str, Job],
) -> None:
    """Submitted before any is waited for."""


def test_stopped_preempted_and_crashed_it_is_the_run_that_never_stopped(
    through_events: "Future[Job]", two_ranks: Path
) -> None:
    run = through_events.result()
    run.end("COMPLETED", restarts=3, patience=PATIENCE)
    assert "start 1: USR1: all ranks save and stop" in run.log
    assert metrics(run.path) == metrics(two_ranks)
    for kind in KINDS:
        ours, theirs = (load_kind(path / "checkpoints/latest", kind) for path in (run.path, two_ranks))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), kind


def test_zero3_on_four_nodes_is_the_run_of_one_machine(on_four_nodes: Job, road: Road) -> None:
    here = train(road, "eight-ranks", 8, *ZERO3)
    on_four_nodes.end("COMPLETED", patience=PATIENCE)
    assert_same(on_four_nodes.path, here, after=0, to=STEPS)
    said = on_four_nodes.rank_log(7)
    assert "ZeRO-3 on 8 ranks" in said, said


def test_a_pipeline_over_two_nodes_is_the_run_of_one_machine(in_a_pipeline: Job, two_ranks: Path) -> None:
    in_a_pipeline.end("COMPLETED", patience=PATIENCE)
    assert_same(in_a_pipeline.path, two_ranks, after=0, to=STEPS)
    assert "pipeline of 2 stages x data 2" in in_a_pipeline.rank_log(0)


def test_a_pulled_cable_ends_in_a_timeout_that_names_the_rank(unplugged: "Future[Job]") -> None:
    run = unplugged.result()
    run.end("FAILED", code=1, patience=PATIENCE)
    assert "another rank did not arrive in parallel.timeout_s: rank 1 on n16" in run.summary


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_trains_the_same(by_each_launcher: dict[str, Job], two_ranks: Path, name: str) -> None:
    job = by_each_launcher[name]
    job.end("COMPLETED", patience=PATIENCE)
    found = metrics(job.path)
    assert [line["step"] for line in found] == [1, 2]
    assert [line["loss"] for line in found] == [line["loss"] for line in metrics(two_ranks)[:2]]
    assert (job.path / "finished").exists()
    assert sorted(path.name for path in job.path.glob(f"logs/{job.number}/*.ends"))[0].endswith("-0.ends")
