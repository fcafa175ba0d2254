"""Runs that take longer than their job may; they were started with the tests of ``test_requeue.py``."""

from .cluster import Cluster
from .conftest import STEPS_OVER_THE_LIMIT
from .job import Job


def goes_on(slurm: Cluster, job: Job) -> None:
    ended = slurm.wait_job(job.number, "COMPLETED", "FAILED", "TIMEOUT")
    assert ended["JobState"] == "COMPLETED", job.everything()
    assert int(ended["Restarts"]) >= 1
    job.assert_whole(STEPS_OVER_THE_LIMIT)
    assert "start 2: 2 nodes" in job.log


def test_warned_before_the_time_limit(slurm: Cluster, over_the_limit: dict[str, Job]) -> None:
    job = over_the_limit["warned"]
    goes_on(slurm, job)
    assert "start 1: USR1: all ranks save and stop" in job.log


def test_the_time_limit_itself(slurm: Cluster, over_the_limit: dict[str, Job]) -> None:
    job = over_the_limit["not warned"]
    goes_on(slurm, job)
    assert "start 1: TERM: all ranks save and stop" in job.log
    assert "DUE TO TIME LIMIT" in job.log
