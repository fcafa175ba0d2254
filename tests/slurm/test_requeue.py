"""A job that is stopped, from whatever side, queues again and goes on where it was. All runs side by side."""

import pytest

from .cluster import Cluster
from .stub_run import StubRun

WAYS = ("usr1", "requeue", "preemption", "crash", "walltime")
LONG = {"STUB_STEPS": 60, "STUB_SECONDS": 0.1}


@pytest.fixture(scope="module")
def runs(slurm: Cluster) -> dict[str, StubRun]:
    """Each stopped in its own way, on nodes of their own where a node matters."""
    runs = {way: StubRun(slurm, way, **LONG) for way in WAYS}
    runs["usr1"].submit()
    runs["requeue"].submit()
    runs["preemption"].submit("launch.partition=low", "launch.nodelist=n[5-6]", "launch.exclusive=true")
    runs["crash"].submit("launch.nodelist=n7", nodes=1)
    runs["walltime"].environment["STUB_STEPS"] = 500
    runs["walltime"].submit("launch.time=1", "launch.warning_s=45")
    for run in runs.values():
        run.reach(5)
    slurm.run("scancel", "--batch", "--signal=USR1", runs["usr1"].job)
    slurm.run("scontrol", "requeue", runs["requeue"].job)
    high = StubRun(slurm, "high", STUB_STEPS=5)
    high.submit("launch.partition=high", "launch.nodelist=n[5-6]", "launch.exclusive=true")
    slurm.crash("n7")
    slurm.boot("n7")
    high.end("COMPLETED")
    return runs


def test_a_run_from_submission_to_its_end(slurm: Cluster) -> None:
    run = StubRun(slurm, "plain", STUB_STEPS=5).submit(nodes=4, ranks=2)
    run.end("COMPLETED")
    run.assert_whole(5)
    assert "done at step 5" in run.log
    for rank in range(8):
        assert f"rank {rank} of 8 starts behind step 0" in run.rank_log(rank)


@pytest.mark.parametrize("way", WAYS)
def test_requeue(runs: dict[str, StubRun], way: str) -> None:
    run = runs[way]
    job = run.slurm.wait_job(run.job, "COMPLETED", "FAILED")
    print(job)
    print(run.log, run.rank_log(0))
