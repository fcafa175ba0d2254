"""Runs of the stub rank, submitted as a user submits a training."""

import os
import re
from pathlib import Path

from .cluster import HERE, Cluster, wait_until

ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
RECIPE = """\
run_dir: {folder}/{name}
model:
  language_model: {{source: {folder}/lm}}
  vision_encoder: {{source: "local-dir:{folder}/lm"}}
data:
  datasets:
    pairs: {{format: image_text, shards: "{folder}/pairs.tar", batch_size: 24}}
train: {{max_steps: 100}}
"""


class StubRun:
    """A run folder and the job that works in it.

    Args:
        slurm: where it runs.
        name: of the run.
        environment: ``STUB_*`` of :mod:`stub_rank`.
    """

    def __init__(self, slurm: Cluster, name: str, **environment: object) -> None:
        self.slurm, self.name = slurm, name
        self.folder = slurm.shared / "stubs"
        (self.folder / "lm").mkdir(parents=True, exist_ok=True)
        (self.folder / "pairs.tar").touch()
        self.recipe = self.folder / f"{name}.yaml"
        self.recipe.write_text(RECIPE.format(folder=self.folder, name=name))
        self.path = self.folder / name
        self.environment = environment
        self.job = ""
        self.said = ""

    def submit(self, *more: str, nodes: int = 2, ranks: int = 2, expect: int = 0) -> "StubRun":
        """Through ``launchers/submit.py``, without a preflight unless it is asked for."""
        stub = [f"launch.environment.{key}={value}" for key, value in self.environment.items()]
        counts = ["--nodes", str(nodes), "--gpus-per-node", str(ranks)]
        fixed = [f"launch.python={HERE / 'stub_python'}", "launch.preflight=false"]
        command = ["python3", "launchers/submit.py", "--recipe", str(self.recipe), *counts, *fixed, *stub, *more]
        done = self.slurm.run(*command, check=False)
        self.said = done.stdout + done.stderr
        assert done.returncode == expect, self.said
        if found := re.search(r"^job (\d+)", done.stdout, re.MULTILINE):
            self.job = found[1]
        return self

    @property
    def steps(self) -> int:
        """Done so far."""
        path = self.path / "metrics.jsonl"
        return path.read_text().count("\n") if path.exists() else 0

    @property
    def log(self) -> str:
        """Of the batch script, all starts."""
        path = self.path / "logs" / f"{self.job}.log"
        return path.read_text() if path.exists() else ""

    def rank_log(self, rank: int) -> str:
        """Of one rank, all starts."""
        return "".join(path.read_text() for path in sorted(self.path.glob(f"logs/{self.job}/*-{rank}.log")))

    def reach(self, step: int) -> None:
        """Wait for a step; a job that ended before has failed."""

        def there() -> bool:
            ended = self.slurm.job(self.job)["JobState"] in ENDS
            assert self.steps >= step or not ended, f"{self.name} has ended\n{self.log}"
            return self.steps >= step

        wait_until(there, f"step {step} of {self.name}\n{self.log}")

    def end(self, state: str, code: int = 0, restarts: int = 0) -> dict[str, str]:
        """Wait for the job's end and hold it against what is expected."""
        job = self.slurm.wait_job(self.job, *ENDS)
        found = (job["JobState"], job["ExitCode"].split(":")[0], job["Restarts"])
        assert found == (state, str(code), str(restarts)), f"{found}\n{self.log}"
        return job

    def assert_whole(self, steps: int) -> None:
        """Every step was done once, whatever came in between."""
        text = (self.path / "metrics.jsonl").read_text()
        assert re.findall(r'"step": (\d+)', text) == [str(step) for step in range(1, steps + 1)]
        assert os.readlink(self.path / "checkpoints" / "latest") == f"step-{steps:08d}"
