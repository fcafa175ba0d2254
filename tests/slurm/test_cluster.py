"""The cluster for tests is what it says, and leaves nothing behind."""

import os
import subprocess
from pathlib import Path

import pytest

from . import cluster
from .cluster import PATIENCE, Cluster, wait_until, why_not
from .conftest import go_without


def test_every_node_has_a_name_an_address_and_processes_of_its_own(slurm: Cluster) -> None:
    script = "echo $(hostname) $(hostname -I) $(ls /sys/class/net | xargs) $(ls /tmp | wc -l) $CUDA_VISIBLE_DEVICES"
    said = slurm.run("srun", "-N3", "--gpus-per-node=2", "bash", "-c", script).stdout
    names = [line.split()[0] for line in said.splitlines()]
    assert len(set(names)) == 3, said
    for line in said.splitlines():
        name, address, *interfaces, files, devices = line.split()
        assert address == f"10.77.0.{10 + int(name[1:])}"
        assert interfaces == ["eth0", "lo"]
        assert int(files) <= 2  # the shared folders that lie below /tmp: the lab, and maybe this checkout
        assert len(devices.split(",")) == 2


def test_a_node_dies_with_everything_on_it_and_comes_back(slurm: Cluster) -> None:
    with subprocess.Popen(slurm.entering("n8", "sleep", "300"), env=slurm.environment()) as sleeper:
        slurm.crash("n8")
        assert sleeper.wait(PATIENCE) != 0
    assert slurm.run("sinfo", "-h", "-n", "n8", "-p", "main", "-o", "%t").stdout.startswith("down")
    slurm.boot("n8")
    assert slurm.run("srun", "-w", "n8", "hostname").stdout == "n8\n"


def test_a_pulled_cable_silences_a_node(slurm: Cluster) -> None:
    def reachable() -> bool:
        return slurm.run("timeout", "1", "bash", "-c", "</dev/tcp/n7/22", check=False).returncode != 124

    assert reachable()
    slurm.cable("n7", plugged=False)
    assert not reachable()
    slurm.cable("n7", plugged=True)
    wait_until(reachable, "n7 answers again")


def test_without_slurm_tests_are_skipped_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PROGRAMS", ("bash", "slurmctldd"))
    reason = why_not()
    assert reason is not None
    assert reason.startswith("not installed: slurmctldd")
    monkeypatch.delenv("REQUIRE_SLURM", raising=False)
    with pytest.raises(pytest.skip.Exception, match="slurmctldd"):
        go_without(reason)
    monkeypatch.setenv("REQUIRE_SLURM", "1")
    with pytest.raises(pytest.fail.Exception, match="REQUIRE_SLURM=1, but no SLURM"):
        go_without(reason)


def processes_about(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                found += [entry.name] if word.encode() in (entry / "cmdline").read_bytes() else []
            except OSError:
                continue
    return found


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path / "another"
    interfaces = set(os.listdir("/sys/class/net"))
    with Cluster(folder, nodes=2) as another:
        another.run("sbatch", "-o", "/dev/null", "--wrap", f"sleep 301 # {folder}")
        assert len(processes_about(str(folder))) >= 3
    wait_until(lambda: not processes_about(str(folder)), "no process is left")
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert set(os.listdir("/sys/class/net")) == interfaces
