"""Runs of the stub rank, submitted as a user submits a training."""

import re

from .cluster import HERE, Cluster
from .job import Job

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
    """What is to run, before it is a job.

    Args:
        slurm: where it runs.
        name: of the run.
        environment: ``STUB_*`` of :mod:`stub_rank`.
    """

    def __init__(self, slurm: Cluster, name: str, **environment: object) -> None:
        self.slurm, self.environment = slurm, environment
        folder = slurm.shared / "stubs"
        (folder / "lm").mkdir(parents=True, exist_ok=True)
        (folder / "pairs.tar").touch()
        self.path, self.recipe = folder / name, folder / f"{name}.yaml"
        self.recipe.write_text(RECIPE.format(folder=folder, name=name))

    def call(self, *more: str, nodes: int = 2, ranks: int = 2, expect: int = 0) -> str:
        """What ``launchers/submit.py`` says, without a preflight unless it is asked for."""
        stub = [f"launch.environment.{key}={value}" for key, value in self.environment.items()]
        counts = ["--nodes", str(nodes), "--gpus-per-node", str(ranks)]
        fixed = [f"launch.python={HERE / 'stub_python'}", "launch.preflight=none"]
        command = ["python3", "launchers/submit.py", "--recipe", str(self.recipe), *counts, *fixed, *stub, *more]
        done = self.slurm.run(*command, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def submit(self, *more: str, nodes: int = 2, ranks: int = 2) -> Job:
        """The job."""
        said = self.call(*more, nodes=nodes, ranks=ranks)
        found = re.search(r"^job (\d+)", said, re.MULTILINE)
        assert found, said
        return Job(self.slurm, found[1], self.path)
