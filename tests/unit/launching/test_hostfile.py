import os
import subprocess
import sys
from pathlib import Path

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.launching.hostfile import hostfile, parse_grants

ROOT = Path(__file__).parents[3]
# As SLURM 22.05.8 says it, of --gpus=4 --nodes=2, shortened.
UNEVEN = (
    "JobId=7 JobName=wrap NodeList=n[1-2] NumNodes=2 JOB_GRES=gpu:4 "
    "Nodes=n1 CPU_IDs=0-1 Mem=0 GRES=gpu:3(IDX:0-2) Nodes=n2 CPU_IDs=0-1 Mem=0 GRES=gpu:1(IDX:0) MinCPUsNode=1"
)
EVEN = "JobId=8 Nodes=n[1-2,04] CPU_IDs=0-7 Mem=0 GRES=gpu:a100:8(IDX:0-7) MinCPUsNode=1"
NO_GPUS = "JobId=9 Nodes=n[1-2] CPU_IDs=0 Mem=100 GRES= MinCPUsNode=1"


def test_what_was_granted():
    assert parse_grants(UNEVEN) == {"n1": 3, "n2": 1}
    assert parse_grants(EVEN) == {"n1": 8, "n2": 8, "n04": 8}
    assert parse_grants(NO_GPUS) == {"n1": 0, "n2": 0}
    assert parse_grants("JobId=10 Nodes=n1 CPU_IDs=0 Mem=0 GRES=shard:2,gpu:2(IDX:0-1)") == {"n1": 2}
    assert parse_grants("slurm_load_jobs error") == {}


def test_a_line_a_node():
    assert hostfile({"n1": 8, "n2": 8}, None) == "n1 slots=8\nn2 slots=8\n"
    assert hostfile({"n1": 0, "n2": 0}, 4) == "n1 slots=4\nn2 slots=4\n"


@pytest.mark.parametrize(
    ("hosts", "wanted", "message"),
    [
        (
            {"n1": 3, "n2": 1},
            None,
            "GPUs = 'n1: 3, n2: 1': expected the same on each node; ask for them with",
        ),
        ({"n1": 8}, 4, "--slots = 4: expected 8, the GPUs that each node was granted"),
        ({"n1": 0}, None, "--slots = None: expected ranks a node, as no GPUs were granted"),
    ],
)
def test_what_would_leave_gpus_idle_is_refused(hosts, wanted, message):
    with pytest.raises(ConfigError) as caught:
        hostfile(hosts, wanted)
    assert str(caught.value).startswith(message)


@pytest.fixture
def run(tmp_path):
    """The command, with a stand-in for ``scontrol``."""

    def start(script: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "scontrol").chmod(0o755)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        plain |= {"PATH": f"{tmp_path}:/bin:/usr/bin", **environment}
        command = [sys.executable, str(ROOT / "launchers/hostfile.py"), *arguments]
        return subprocess.run(command, env=plain, capture_output=True, text=True)

    return start


def test_the_command_asks_scontrol(run):
    done = run(f'test "$*" = "--details --oneliner show job 8" && echo "{EVEN}"', SLURM_JOB_ID="8")
    assert (done.returncode, done.stdout) == (0, "n1 slots=8\nn2 slots=8\nn04 slots=8\n")


def test_the_command_refuses_in_one_line(run):
    done = run(f'echo "{UNEVEN}"', SLURM_JOB_ID="7")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: GPUs = 'n1: 3, n2: 1'")
    assert run("echo broken >&2; exit 1", SLURM_JOB_ID="7").stderr == (
        "error: scontrol = 'broken': expected the nodes of this job\n"
    )
    assert run("true").stderr.startswith("error: SLURM_JOB_ID = None: expected a job")
