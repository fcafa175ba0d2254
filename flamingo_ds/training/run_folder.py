"""The folder of a run: everything about it in one place.

RUN_DIR/
  config.yaml         the resolved recipe
  deepspeed.json      the complete DeepSpeed configuration
  environment.json    command, code revision, versions, ranks, device of each start
  metrics.jsonl       one line a step
  tensorboard/        the same as curves
  bad_samples.jsonl   one line for each sample that was passed over
  logs/               one file a rank, and how each ended: see launching/run_files.py, also for finished and stop
  checkpoints/        step-00000100/ ..., latest
"""

import json
import logging
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..checkpoint.files import replace_text
from ..config import ConfigError, DeepSpeedSettings, RunConfig, to_yaml
from ..launching.launch import Launch
from ..launching.run_files import Job, RunFiles

LOGGER = logging.getLogger("flamingo_ds")
PACKAGES = ("flamingo_ds", "torch", "deepspeed", "transformers", "open_clip_torch", "webdataset")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON object a step."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def bad_samples(self) -> Path:
        """One JSON object a bad sample."""
        return self.path / "bad_samples.jsonl"

    def create(self) -> None:
        """Make the folders; what exists stays. Every rank asks, so that none waits for another that was refused.

        Raises:
            ConfigError: they cannot be made there, or not be written to.
        """
        try:
            for folder in (self.checkpoints, self.tensorboard, self.path / "logs"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("run_dir", str(self.path), f"a folder that can be made: {error.strerror}") from error
        if not os.access(self.path, os.W_OK):
            raise ConfigError("run_dir", str(self.path), "a folder that can be written to")

    def describe(self, config: RunConfig, settings: DeepSpeedSettings, launch: Launch) -> None:
        """Write down what is run, by what code, on what; a resumed run adds its start to the earlier ones."""
        replace_text(self.path / "config.yaml", to_yaml(config))
        replace_text(self.path / "deepspeed.json", json.dumps(settings.content, indent=2) + "\n")
        path = self.path / "environment.json"
        starts: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
        starts.append(
            {
                "command": sys.argv,
                "revision": code_revision(),
                "ranks": launch.world_size,
                "ranks_from": launch.source,
                "job": Job.of(os.environ).number,
                "device": device,
                "python": platform.python_version(),
                "packages": {name: version(name) for name in PACKAGES},
            }
        )
        replace_text(path, json.dumps(starts, indent=2) + "\n")

    @property
    def files(self) -> RunFiles:
        """What others than the training read and write as well."""
        return RunFiles(self.path)

    def log_to_file(self, rank: int, job: Job) -> None:
        """Send the package's log to this rank's file, behind what is there."""
        path = self.files.log(rank, job)
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        LOGGER.addHandler(handler)
        LOGGER.propagate = False
        LOGGER.setLevel(logging.INFO)


def code_revision() -> str | None:
    """The git commit that this code runs from, with ``+changes`` if it is not what was committed; None if installed.

    A snapshot of the code, which ``launchers/submit.py`` takes, has it in a file.
    """
    folder = Path(__file__).parent
    snapshot = folder.parents[1] / "REVISION"
    if snapshot.is_file():
        return snapshot.read_text(encoding="utf-8").strip()

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if not git("ls-files", "--", __file__):
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None
