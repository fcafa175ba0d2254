import os
import subprocess
import sys

STEP = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "192.0.2.[1-2]",
    "SLURMD_NODENAME": "192.0.2.2",
}


def run(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    command = [sys.executable, "-m", "flamingo_ds.launching.master"]
    return subprocess.run(command, env=plain | environment, capture_output=True, text=True)


def test_agents_are_told_address_and_port():
    done = run(STEP)
    assert (done.returncode, done.stdout) == (0, "192.0.2.1 20373\n")


def test_a_jobs_own_shell_has_the_first_node():
    done = run({"SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "192.0.2.[1-2]", "SLURMD_NODENAME": "192.0.2.1"})
    assert (done.returncode, done.stdout) == (0, "192.0.2.1 20402\n")


def test_outside_of_a_job_there_is_no_master():
    done = run({})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no job of SLURM\n"


def test_half_a_step_is_one_line():
    done = run({"SLURM_STEP_ID": "1"})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
