"""What the scripts of launchers/ start, with stand-ins for the programs; tests/slurm and tests/integration run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHERS = Path(__file__).parents[3] / "launchers"
# Prints its name, its arguments and whether USR1 is ignored (bit 10 of SigIgn).
STAND_IN = """\
#!/bin/bash
ignored=$(sed -n 's/^SigIgn:\\t//p' /proc/self/status)
echo "$(basename "$0")" "$@" "usr1=$((0x$ignored >> 9 & 1))"
"""
SCONTROL = """\
#!/bin/bash
echo "Nodes=n[1-2] CPU_IDs=0 Mem=0 GRES=$GRES"
"""
# What runs a command that it is given: the next stand-in is what counts.
SRUN = """\
#!/bin/bash
echo srun "$@"
while [[ $1 == --* ]]; do shift; done
[[ $1 != *agent.sh ]] || { export SLURM_STEP_ID=0 SLURM_NTASKS_PER_NODE=1; exec "$@"; }
"""
JOB = {
    "SLURM_JOB_ID": "12",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "192.0.2.[1-2]",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "192.0.2.[1-2]",
    "SLURMD_NODENAME": "192.0.2.1",
    "GRES": "gpu:4(IDX:0-3)",
}
TASKS = "--kill-on-bad-exit=1 --wait=60"


@pytest.fixture
def run(tmp_path):
    programs = dict.fromkeys(("torchrun", "deepspeed", "mpirun"), STAND_IN) | {"scontrol": SCONTROL, "srun": SRUN}
    (tmp_path / "python").symlink_to(sys.executable)
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def start(script: str, environment: dict[str, str], code: int = 0) -> str:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RANKS"))}
        plain |= {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": str(tmp_path / "python"), **environment}
        done = subprocess.run([LAUNCHERS / script, "--recipe", "demo"], env=plain, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return start


def test_a_task_a_rank(run, tmp_path):
    shield = "bash -c trap '' USR1; exec \"$@\" shield"
    train = f"{tmp_path / 'python'} -m flamingo_ds.train --recipe demo"
    assert run("srun.sh", JOB) == f"srun --ntasks=8 --ntasks-per-node=4 {TASKS} {shield} {train}\n"


def test_a_torchrun_a_node(run):
    assert run("torchrun.sh", JOB).splitlines() == [
        f"srun --ntasks=2 --ntasks-per-node=1 {TASKS} {LAUNCHERS}/agent.sh torchrun --recipe demo",
        "torchrun --nnodes=2 --node-rank=0 --nproc-per-node=4 --master-addr=192.0.2.1 --master-port=20372 "
        "-m flamingo_ds.train --recipe demo usr1=1",
    ]


def test_a_deepspeed_launcher_a_node(run):
    _, said = run("deepspeed.sh", JOB).splitlines()
    assert said.startswith("deepspeed --hostfile /tmp/")
    assert said.endswith(
        " --no_ssh --node_rank 0 --master_addr 192.0.2.1 --master_port 20372 --module flamingo_ds.train "
        "--recipe demo usr1=1"
    )
    hosts = Path(said.split()[2])
    assert hosts.read_text() == "192.0.2.1 slots=4\n192.0.2.2 slots=4\n"
    hosts.unlink()


def test_deepspeed_over_pdsh(run):
    (said,) = run("deepspeed_pdsh.sh", JOB).splitlines()
    assert "--launcher pdsh --force_multi --master_addr 192.0.2.1 --master_port 20402 --module" in said
    assert said.endswith("usr1=1")
    hosts = Path(said.split()[2])
    assert hosts.read_text() == "n1 slots=4\nn2 slots=4\n"
    assert "SLURM_JOB_ID=12\n" in (hosts.parent / "environment").read_text()


def test_mpirun_in_a_job_and_alone(run):
    assert run("mpirun.sh", JOB).startswith("mpirun -np 8 --map-by ppr:4:node:oversubscribe ")
    assert run("mpirun.sh", {"RANKS_PER_NODE": "2"}).startswith("mpirun -np 2 --map-by ppr:2:node:oversubscribe ")


def test_one_machine(run):
    said = run("one_machine.sh", {"RANKS_PER_NODE": "2"})
    assert said == "torchrun --standalone --nproc-per-node=2 -m flamingo_ds.train --recipe demo usr1=1\n"


def test_ranks_a_node_without_gpus_come_from_the_job(run):
    environment = {**JOB, "SLURM_GPUS_ON_NODE": "", "SLURM_NTASKS_PER_NODE": "3", "GRES": ""}
    assert "--nproc-per-node=3 " in run("torchrun.sh", environment)


@pytest.mark.parametrize("script", ["srun.sh", "torchrun.sh", "deepspeed.sh", "deepspeed_pdsh.sh", "mpirun.sh"])
def test_another_number_of_gpus_than_ranks_is_refused(run, script):
    said = run(script, {**JOB, "GRES": "gpu:3(IDX:0-2)"}, code=2)
    assert said == "error: --slots = 4: expected 3, the GPUs that each node was granted\n"


@pytest.mark.parametrize("script", ["srun.sh", "torchrun.sh", "deepspeed.sh", "deepspeed_pdsh.sh"])
def test_without_a_job_they_say_so(run, script):
    assert run(script, {"RANKS_PER_NODE": "2"}, code=2).startswith("error: SLURM_JOB_ID = None: expected a job")
