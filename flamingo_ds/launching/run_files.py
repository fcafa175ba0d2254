"""What a run folder says about its ends, for ranks, batch scripts and people.

RUN_DIR/
  finished                   all steps are done: {"step": 300}
  stop                       made by you: the run saves and ends, and does not start while it is there
  progress.log               rank 0's lines, of all starts
  summary.txt                how it went, on one page
  logs/JOB/NODE-RANK.log     one file a rank, in a SLURM job
  logs/JOB/NODE-RANK.ends    starts and ends of this rank, a JSON object a line
  logs/rank-0000.log, .ends  the same without a job
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError

ENDS_SUFFIX = ".ends"


@dataclass(frozen=True)
class Job:
    """The scheduler's job that this process is in.

    Attributes:
        number: of the job; None outside of SLURM.
        restarts: how often it was queued again.
        node: this machine's name.
    """

    number: str | None
    restarts: int
    node: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Job":
        """This process's."""
        restarts = environ.get("SLURM_RESTART_COUNT", "")
        node = environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0]
        return cls(environ.get("SLURM_JOB_ID") or None, int(restarts) if restarts.isdecimal() else 0, node)


@dataclass(frozen=True)
class RunFiles:
    """Their paths."""

    path: Path

    @property
    def finished(self) -> Path:
        """There when all steps are done; it decides where an exit code cannot be believed."""
        return self.path / "finished"

    @property
    def stop(self) -> Path:
        """Made by people to end the run for good."""
        return self.path / "stop"

    @property
    def progress(self) -> Path:
        """Rank 0's lines, of all starts."""
        return self.path / "progress.log"

    @property
    def summary(self) -> Path:
        """One page on how it went."""
        return self.path / "summary.txt"

    @property
    def logs(self) -> Path:
        """Of ranks and jobs."""
        return self.path / "logs"

    def log(self, rank: int, job: Job) -> Path:
        """Of one rank. SLURM's own name for it: what the rank prints may go to the same file."""
        if job.number is None:
            return self.logs / f"rank-{rank:04d}.log"
        return self.logs / job.number / f"{job.node}-{rank}.log"

    def require_may_run(self) -> None:
        """Refuse to start where people said that it should end.

        Raises:
            Halted: the kill switch is there.
        """
        if self.stop.exists():
            raise Halted(self.stop)

    def write_finished(self, step: int) -> None:
        """All steps are done. Complete or absent."""
        replace_text(self.finished, json.dumps({"step": step}) + "\n")


class Halted(ConfigError):
    """The kill switch is there."""

    def __init__(self, path: Path) -> None:
        super().__init__("run_dir", str(path.parent), f"no file {path.name} in it; remove it to go on")


def replace_text(path: Path, text: str) -> None:
    """Write a small file so that readers see all of it or the one before."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
