"""SLURM's commands on the login node."""

import subprocess
from pathlib import Path

from ..errors import ConfigError

# A controller under load answers late.
PATIENCE_SECONDS = 120.0


def would_run(script: Path) -> str:
    """When and where SLURM would start the job, in its own words; nothing is submitted.

    Raises:
        ConfigError: it never would, or there is no SLURM here.
    """
    done = _call("sbatch", "--test-only", str(script))
    said = " ".join(line.removeprefix("sbatch: ") for line in done.stderr.splitlines())
    if done.returncode:
        raise ConfigError("launch", str(script), f"a job that this cluster can run; SLURM says: {said}")
    return said


def submit(script: Path) -> str:
    """Submit it.

    Returns:
        The job's number.

    Raises:
        ConfigError: SLURM refused it.
    """
    done = _call("sbatch", "--parsable", str(script))
    if done.returncode:
        raise ConfigError("launch", str(script), f"a job that SLURM takes; it says: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]  # behind it the cluster's name, where there are several


def alive(jobs: list[str]) -> list[str]:
    """Those of the jobs that run or wait."""
    if not jobs:
        return []
    done = _call("squeue", "--noheader", "--format=%A", "--me")
    return sorted(set(jobs) & set(done.stdout.split()))


def _call(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except FileNotFoundError as error:
        expected = "a machine with SLURM's commands; --dry-run shows the batch file without"
        raise ConfigError("command", command[0], expected) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError("command", command[0], f"an answer within {PATIENCE_SECONDS:.0f} s") from error
