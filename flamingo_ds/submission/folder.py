"""What a submission leaves in the run folder, before the job exists.

RUN_DIR/
  logs/               SLURM writes nothing and says nothing where it is missing
  submissions/TIME/   one for each submission; a later one does not touch it
    train.sbatch      what SLURM got
    config.yaml       the resolved recipe, which the job reads
    launch.yaml       the launch description: --launch FILE says it again
    deepspeed.json    the file of --deepspeed_config
    code/             what the ranks run, with REVISION and changes.patch
    jobs              numbers, a line each
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError


@dataclass(frozen=True)
class SubmissionFolder:
    """Paths of one submission; absolute."""

    path: Path

    @property
    def script(self) -> Path:
        """For sbatch."""
        return self.path / "train.sbatch"

    @property
    def recipe(self) -> Path:
        """Resolved."""
        return self.path / "config.yaml"

    @property
    def launch(self) -> Path:
        """The description."""
        return self.path / "launch.yaml"

    @property
    def deepspeed(self) -> Path:
        """DeepSpeed's settings as given."""
        return self.path / "deepspeed.json"

    @property
    def code(self) -> Path:
        """Snapshot."""
        return self.path / "code"

    @property
    def jobs(self) -> Path:
        """Their numbers."""
        return self.path / "jobs"

    def create(self) -> None:
        """Make it, and the folder for logs.

        Raises:
            ConfigError: it cannot be made there.
        """
        run_dir = self.path.parents[1]
        try:
            (run_dir / "logs").mkdir(parents=True, exist_ok=True)
            self.path.mkdir(parents=True)
        except OSError as error:
            raise ConfigError("run_dir", str(run_dir), f"a folder that can be made: {error.strerror}") from error

    def remove(self) -> None:
        """Of a submission that was refused."""
        shutil.rmtree(self.path, ignore_errors=True)


def new_submission(run_dir: Path) -> SubmissionFolder:
    """A name that is not taken yet."""
    folder = run_dir / "submissions"
    name = time.strftime("%Y%m%dT%H%M%S")
    taken = sum(1 for _ in folder.glob(f"{name}*"))
    return SubmissionFolder(folder / (f"{name}-{taken + 1}" if taken else name))


def submitted_jobs(run_dir: Path) -> list[str]:
    """Numbers of all jobs that were ever submitted for this run."""
    return [job for file in sorted(run_dir.glob("submissions/*/jobs")) for job in file.read_text().split()]
