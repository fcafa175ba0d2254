"""A job that is stopped, from whatever side, queues again and goes on where it was. All runs side by side."""

import pytest

from .cluster import Cluster
from .job import Job
from .stub_run import StubRun

# However long it takes until something happens to it, it has not ended.
LONG = {"STUB_STEPS": 60, "STUB_LINGER": 40}


@pytest.fixture(scope="module")
def jobs(slurm: Cluster, over_the_limit: dict[str, Job]) -> dict[str, Job]:
    """Each stopped in its own way, on nodes of its own where the node matters."""
    alone = ("launch.nodelist=n[5-6]", "launch.exclusive=true")
    jobs = {
        "usr1": StubRun(slurm, "usr1", **LONG).submit("launch.nodelist=n[1-2]"),
        "requeue": StubRun(slurm, "requeue", **LONG).submit("launch.nodelist=n[3-4]"),
        "preemption": StubRun(slurm, "preemption", **LONG).submit("launch.partition=low", *alone),
        "crash": StubRun(slurm, "crash", **LONG, STUB_SAVE_EVERY=4).submit("launch.nodelist=n[7-8]"),
    }
    for job in jobs.values():
        job.reach(5)
    slurm.run("scancel", "--batch", "--signal=USR1", jobs["usr1"].number)
    slurm.run("scontrol", "requeue", jobs["requeue"].number)
    above = StubRun(slurm, "above", STUB_STEPS=5).submit("launch.partition=high", *alone)
    slurm.crash("n8")
    slurm.boot("n8")
    above.end("COMPLETED")
    return jobs


def test_a_run_from_submission_to_its_end(slurm: Cluster) -> None:
    job = StubRun(slurm, "plain", STUB_STEPS=5).submit(nodes=4, ranks=2)
    job.end("COMPLETED")
    job.assert_whole(5)
    assert "start 1: 4 nodes (n[1-4]), 2 ranks each, behind step 0" in job.log
    assert "start 1: done at step 5" in job.log
    assert "finished" in job.summary
    for rank in range(8):
        assert job.rank_log(rank) == f"rank {rank} of 8 starts behind step 0\n"


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("usr1", "start 1: USR1: all ranks save and stop"),
        ("requeue", "start 1: TERM: all ranks save and stop"),
        ("preemption", "start 1: USR1: all ranks save and stop"),
        ("crash", ""),
    ],
)
def test_it_goes_on_where_it_was(jobs: dict[str, Job], way: str, said: str) -> None:
    job = jobs[way]
    job.end("COMPLETED", restarts=1)
    job.assert_whole(60)
    assert said in job.log
    behind = int(job.log.partition("start 2: 2 nodes")[2].partition("behind step ")[2].split()[0])
    assert behind >= 4
    # Both starts are in one log of the rank.
    assert "rank 0 of 4 starts behind step 0\n" in job.rank_log(0)
    assert "starts behind step 0" not in job.rank_log(0).split("\n", 1)[1]


def test_a_chain_of_jobs_goes_on_without_queueing_again(slurm: Cluster) -> None:
    said = StubRun(slurm, "chain", STUB_STEPS=100, STUB_SECONDS=0.1).call("launch.chain=3")
    numbers = said.partition("\njob ")[2].partition(":")[0].split()
    first, second, third = (Job(slurm, number, slurm.shared / "stubs/chain") for number in numbers)
    first.reach(5)
    slurm.run("scancel", "--batch", "--signal=USR1", first.number)
    first.end("FAILED", code=85)
    assert "this job does not queue again" in first.log
    second.end("COMPLETED")
    third.end("COMPLETED")
    assert "nothing to do" in third.log
    first.assert_whole(100)


def test_cancelled_is_cancelled_behind_a_checkpoint(slurm: Cluster) -> None:
    job = StubRun(slurm, "cancelled", **LONG).submit()
    job.reach(3)
    slurm.run("scancel", job.number)
    job.end("CANCELLED", code=85)
    assert f"stopped at step {job.steps}" in job.log
    assert (job.path / "checkpoints/latest").readlink().name == f"step-{job.steps:08d}"


def test_the_kill_switch(slurm: Cluster) -> None:
    run = StubRun(slurm, "halted", **LONG)
    job = run.submit()
    job.reach(3)
    (job.path / "stop").touch()
    job.end("FAILED", code=86)
    assert f"stopped at step {job.steps} by {job.path}/stop" in job.log
    assert "a run that may start; remove" in run.call(expect=2)
    (job.path / "stop").unlink()
    run.environment["STUB_LINGER"] = 0
    job = run.submit()
    job.end("COMPLETED")
    job.assert_whole(60)
    assert "expected a run with steps to do; remove" in run.call(expect=2)
