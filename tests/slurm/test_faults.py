"""What goes wrong on clusters, each with its line and its exit code. All runs side by side."""

import re
from pathlib import Path

import pytest

from .cluster import ROOT, Cluster
from .job import Job
from .stub_run import StubRun

SHORT = {"STUB_STEPS": 20, "STUB_SAVE_EVERY": 2}


@pytest.fixture(scope="module")
def jobs(slurm: Cluster) -> dict[str, Job]:
    def rehearsed(name: str, *more: str) -> Job:
        bad_node = StubRun(slurm, name, **SHORT, FLAMINGO_PREFLIGHT_BAD="n2")
        return bad_node.submit("launch.preflight=quick", "launch.preflight_s=30", "launch.exclude=n1", *more)

    return {
        "bad node": rehearsed("bad-node"),
        "all excluded": rehearsed("all-excluded", "launch.max_exclusions=0"),
        "raises": StubRun(slurm, "raises", **SHORT, STUB_FAULT="3:5:raise").submit("launch.max_restarts=0"),
        "killed": StubRun(slurm, "killed", **SHORT, STUB_FAULT="1:5:kill:1").submit("launch.nodelist=n[3-4]"),
        "neighbour": StubRun(slurm, "neighbour", **SHORT).submit("launch.nodelist=n[3-4]"),
        "always killed": StubRun(slurm, "always-killed", **SHORT, STUB_FAULT="1:5:kill").submit(),
        "often killed": StubRun(slurm, "often-killed", **SHORT, STUB_FAULT="1:5:kill:1").submit(
            "launch.max_restarts=0"
        ),
    }


def test_a_rank_that_raises(jobs: dict[str, Job]) -> None:
    job = jobs["raises"]
    job.end("FAILED", code=1)
    assert "start 1: failed at step 4, exit code 1, after 0 restarts" in job.log
    # Its own traceback comes first, not those of the three that only noticed.
    worst = job.summary.splitlines()[1:]
    assert worst[0].startswith("worst rank     rank 3 on n")
    assert worst[0].endswith("exit code 1 at step 5")
    assert "RuntimeError: the stub fails as it was told to" in job.summary


def test_a_killed_rank_is_started_again(jobs: dict[str, Job]) -> None:
    job = jobs["killed"]
    job.end("COMPLETED", restarts=1)
    assert "start 1: failed at step 4, exit code 1; queued again" in job.log
    job.assert_whole(20)


def test_but_not_twice_at_the_same_step(jobs: dict[str, Job]) -> None:
    job = jobs["always killed"]
    job.end("FAILED", code=1, restarts=1)
    assert "start 2: failed again at step 4, exit code 1" in job.log
    assert "worst rank     rank 1 on n1: no word of an end; killed, or the node is gone" in job.summary


def test_and_not_more_often_than_said(jobs: dict[str, Job]) -> None:
    job = jobs["often killed"]
    job.end("FAILED", code=1)
    assert "start 1: failed at step 4, exit code 1, after 0 restarts" in job.log


def test_two_jobs_on_one_node_do_not_meet(jobs: dict[str, Job]) -> None:
    for name in ("killed", "neighbour"):
        assert jobs[name].slurm.job(jobs[name].number)["NodeList"] == "n[3-4]"
    jobs["neighbour"].end("COMPLETED")
    jobs["neighbour"].assert_whole(20)


def test_a_node_that_fails_the_preflight_is_left_out(jobs: dict[str, Job]) -> None:
    job = jobs["bad node"]
    ended = job.end("COMPLETED", restarts=1)
    assert ended["ExcNodeList"] == "n1,n2"
    assert "start 1: preflight: bad node n2 is excluded; queued again" in job.log
    assert "start 2: 2 nodes (n[3-4])" in job.log
    assert "excluded       n2: a rehearsal" in job.summary
    job.assert_whole(20)


def test_and_not_more_often_than_allowed(jobs: dict[str, Job]) -> None:
    job = jobs["all excluded"]
    job.end("FAILED", code=1)
    assert "preflight: bad node n2; nodes were excluded 0 times already" in job.log


def test_more_gpus_than_there_are(slurm: Cluster) -> None:
    run = StubRun(slurm, "too-many")
    said = run.call(ranks=12, expect=2)
    assert "error: launch = " in said
    assert "Requested node configuration is not available" in said
    assert not list(run.path.glob("submissions/*"))
    assert "Requested node configuration is not available" in run.call(nodes=24, ranks=1, expect=2)


@pytest.fixture(scope="module")
def script(slurm: Cluster) -> Path:
    """A batch file to be edited, with everything that it needs."""
    job = StubRun(slurm, "edited", **SHORT).submit("launch.max_restarts=0", "launch.sbatch=[--hold]")
    slurm.run("scancel", job.number)
    (script,) = job.path.glob("submissions/*/train.sbatch")
    script.write_text(script.read_text().replace("#SBATCH --hold\n", ""))
    return script


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("#SBATCH --gpus-per-node=2", "#SBATCH --gpus-per-node=1", 2, "2 ranks on the 1 GPUs of a node"),
        ("--ntasks-per-node=2", "--ntasks=3", 2, "uneven nodes (2,1 ranks)"),
        ("PREFLIGHT=()", "PREFLIGHT=(--nonsense)", 1, ") and names no node; see "),
        ("RUN_DIR=", "RUN_DRI=", 1, "RUN_DIR: unbound variable"),
        # No rank came so far as to say how it ended: srun may give the code of one that it ended itself.
        ("flamingo_ds.train", "flamingo_ds.trian", None, "failed at step 0, exit code 1"),
        # srun returns 0 where it cannot open its output, and has started nothing.
        ('--output="$LOGS/%N', '--output="$LOGS/nowhere/%N', 1, "failed at step 0, exit code 1"),
        ("--kill-on-bad-exit=1", "--kill-on-bad-exit=1 --nonsense", 255, "failed at step 0, exit code 255"),
    ],
)
def test_a_script_edited_wrongly(slurm: Cluster, script: Path, old: str, new: str, code: int | None, said: str) -> None:
    text = script.read_text()
    assert old in text
    edited = script.with_name("edited.sbatch")
    edited.write_text(text.replace(old, new))
    number = slurm.run("sbatch", "--parsable", str(edited)).stdout.strip()
    job = Job(slurm, number, script.parents[2])
    job.end("FAILED", code=code)
    assert said in job.log


def test_helpers_in_a_step_of_their_own(slurm: Cluster) -> None:
    """As in a container, whose Python the batch script cannot start by itself."""
    run = StubRun(slurm, "helpers", **SHORT)
    (run.path / "logs").mkdir(parents=True)
    text = run.call("--dry-run").partition("\n#SBATCH")
    script = run.path / "train.sbatch"
    script.write_text("#!/bin/bash" + "".join(text[1:]).replace("HELPER=(", "HELPER=(srun --nodes=1 --ntasks=1 "))
    script.write_text(re.sub(r"^CODE=.*", f"CODE={ROOT}", script.read_text(), flags=re.MULTILINE))
    number = slurm.run("sbatch", "--parsable", str(script)).stdout.strip()
    job = Job(slurm, number, run.path)
    job.end("COMPLETED")
    assert "run            " in job.log
    job.assert_whole(20)


def test_an_output_folder_that_is_missing(slurm: Cluster) -> None:
    """SLURM ends such a job without a word: the folder is made before submission, and refused where it cannot be."""
    run = StubRun(slurm, "no-folder", **SHORT)
    run.path.write_text("a file")
    assert f"error: run_dir = '{run.path}': expected a folder that can be made" in run.call(expect=2)
    run.path.unlink()
    job = run.submit("launch.sbatch=[--hold]")
    (job.path / "logs").rmdir()
    slurm.run("scontrol", "release", job.number)
    ended = job.slurm.wait_job(job.number, "FAILED")
    assert (ended["ExitCode"], job.log) == ("0:53", "")
