"""Names in a run's ``checkpoints`` folder, and which of its folders are whole."""

import os
import re
from pathlib import Path

from .files import OLD_SUFFIX, beside

FORMAT = 2
LATEST = "latest"
ABOUT = "checkpoint.json"
STEP = "step"  # key in the metadata of a tensor file
# Of a published folder.
WEIGHTS, INDEX, MANIFEST = "model.safetensors", "model.safetensors.index.json", "manifest.json"
OPENFLAMINGO = "checkpoint.pt"
STATE_KINDS = ("weight", "exp_avg", "exp_avg_sq")
_STEP = re.compile(r"step-(\d{8,})")


def step_name(step: int) -> str:
    """``step-00000200``."""
    return f"step-{step:08d}"


def index_name(kind: str) -> str:
    """The file that says in which file a tensor is."""
    return f"{kind}.safetensors.index.json"


def shard_name(kind: str, number: int, count: int) -> str:
    """One rank's tensors of a kind."""
    return f"{kind}-{number:05d}-of-{count:05d}.safetensors"


def data_name(data_rank: int) -> str:
    """A data-parallel rank's position."""
    return f"data/{data_rank:04d}.json"


def random_name(rank: int) -> str:
    """A rank's random states."""
    return f"ranks/{rank:04d}.pt"


def complete_checkpoints(folder: Path) -> dict[int, Path]:
    """Whole checkpoints by step, in rising order; one that is just being replaced counts under its ``.old`` name."""
    found = {}
    for name in os.listdir(folder) if folder.is_dir() else []:
        match = _STEP.fullmatch(name.removesuffix(OLD_SUFFIX))
        path = folder / name
        # A folder gets its name when it is whole. The file is asked for in case a person made the folder.
        if match is None or not (path / ABOUT).is_file():
            continue
        if not name.endswith(OLD_SUFFIX) or not (folder / name.removesuffix(OLD_SUFFIX)).exists():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def latest_checkpoint(folder: Path) -> Path | None:
    """What ``latest`` points to; after a kill in the middle of a replacement what it pointed to, else the newest."""
    link = folder / LATEST
    if link.exists():
        return link
    if link.is_symlink():
        old = beside(folder / os.readlink(link), OLD_SUFFIX)
        if (old / ABOUT).is_file():
            return old
    return next(reversed(complete_checkpoints(folder).values()), None)
