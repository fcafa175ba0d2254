"""A submitted job and the run folder that it works in, as tests look at them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .cluster import PATIENCE, Cluster, wait_until

ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


@dataclass(frozen=True)
class Job:
    """Number ``number`` of ``slurm``, in ``path``."""

    slurm: Cluster
    number: str
    path: Path

    @property
    def steps(self) -> int:
        """Done so far."""
        path = self.path / "metrics.jsonl"
        return path.read_text().count("\n") if path.exists() else 0

    @property
    def log(self) -> str:
        """Of the batch script, all starts."""
        path = self.path / "logs" / f"{self.number}.log"
        return path.read_text() if path.exists() else ""

    def rank_log(self, rank: int) -> str:
        """Of one rank, all starts."""
        return "".join(path.read_text() for path in sorted(self.path.glob(f"logs/{self.number}/*-{rank}.log")))

    @property
    def summary(self) -> str:
        """The page."""
        return (self.path / "summary.txt").read_text()

    def reach(self, step: int, patience: float = PATIENCE) -> None:
        """Wait for a step; a job that ended before has failed."""

        def there() -> bool:
            ended = self.slurm.job(self.number)["JobState"] in ENDS
            assert self.steps >= step or not ended, f"{self.path.name} has ended\n{self.everything()}"
            return self.steps >= step

        wait_until(there, f"step {step} of {self.path.name}", patience)

    def end(self, state: str, code: int | None = 0, restarts: int = 0, patience: float = PATIENCE) -> dict[str, str]:
        """Wait for the job's end and hold it against what is expected; None is any code but 0."""
        job = self.slurm.wait_job(self.number, *ENDS, patience=patience)
        found = (job["JobState"], int(job["ExitCode"].split(":")[0]), int(job["Restarts"]))
        assert found == (state, found[1] or 1 if code is None else code, restarts), f"{found}\n{self.everything()}"
        return job

    def assert_whole(self, steps: int) -> None:
        """Every step was done once, whatever came in between."""
        text = (self.path / "metrics.jsonl").read_text()
        assert re.findall(r'"step": (\d+)', text) == [str(step) for step in range(1, steps + 1)]
        assert os.readlink(self.path / "checkpoints" / "latest") == f"step-{steps:08d}"

    def everything(self) -> str:
        """All logs, for the message of a test that fails."""
        logs = sorted(self.path.glob(f"logs/{self.number}/*.log"))
        return "\n".join([self.log, *(f"==> {path.name}\n{path.read_text()[-3000:]}" for path in logs)])
