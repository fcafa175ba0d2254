import json
from pathlib import Path

import pytest

from flamingo_ds.launching.run_files import Halted, Job, RunFiles


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "n2"}, Job("12", 0, "n2")),
        ({"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "3", "SLURMD_NODENAME": "n2"}, Job("12", 3, "n2")),
    ],
)
def test_the_job_of_a_process(environ, expected):
    assert Job.of(environ) == expected


def test_outside_of_a_job_there_is_a_node_alone():
    job = Job.of({})
    assert (job.number, job.restarts) == (None, 0)
    assert job.node


def test_a_rank_has_a_log_in_its_job_or_without_one():
    files = RunFiles(Path("run"))
    assert files.log(3, Job(None, 0, "n2")) == Path("run/logs/rank-0003.log")
    assert files.log(3, Job("12", 0, "n2.cluster")) == Path("run/logs/12/n2.cluster-3.log")


def test_the_kill_switch_is_looked_at(tmp_path):
    files = RunFiles(tmp_path / "run")
    files.require_may_run()
    files.path.mkdir()
    files.stop.touch()
    with pytest.raises(Halted) as caught:
        files.require_may_run()
    assert str(caught.value) == f"run_dir = '{files.path}': expected no file stop in it; remove it to go on"


def test_the_finished_flag_says_how_far(tmp_path):
    RunFiles(tmp_path).write_finished(300)
    assert json.loads((tmp_path / "finished").read_text()) == {"step": 300}
    assert [path.name for path in tmp_path.iterdir()] == ["finished"]
