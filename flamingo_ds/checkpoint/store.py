"""Checkpoints: what trains, the optimizer, every rank's position; nothing that is frozen.

    checkpoints/
      latest -> step-00000200
      step-00000200/
        checkpoint.json                         format, step, ranks, data ranks, layout, fingerprint of the frozen base
        recipe.yaml                             the resolved recipe
        model/                                  config.json and processor of the model
        weight-00000-of-00004.safetensors ...   fp32 masters, each whole, by canonical name; a file each writing rank
        weight.safetensors.index.json           which file each name is in
        exp_avg-..., exp_avg.safetensors...     Adam's first moment, same names, same places
        exp_avg_sq-..., exp_avg_sq....          Adam's second moment
        reference.safetensors                   a small batch and the training engine's own logits on it
        data/0000.json                          data position of data-parallel rank 0
        ranks/0000.pt                           random states of rank 0

No name or shape depends on how the run was laid out over ranks; which rank wrote a tensor is for the index alone to
know. All ranks write into one folder, on a file system that they share. Writing: :mod:`.saver`.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ..config import ConfigError
from .json_files import read_json
from .mapped_file import MappedFile
from .names import ABOUT, FORMAT, LATEST, data_name, latest_checkpoint, random_name
from .random_states import set_random_states
from .tensor_files import StateFiles, TensorFiles
from .tensor_header import DamagedFileError


class Checkpoint:
    """A checkpoint on disk; tensors are read when asked for.

    Raises:
        ConfigError: not a checkpoint, of another format, or damaged.
    """

    def __init__(self, path: Path) -> None:
        if path.name == LATEST and not path.exists():
            path = latest_checkpoint(path.parent) or path
        self.path = path.resolve()
        about = self.path / ABOUT
        if not about.is_file():
            raise ConfigError("checkpoint", str(path), f"a checkpoint folder; it has no {ABOUT}")
        self.about = read_json(about)
        if self.about.get("format") != FORMAT:
            raise ConfigError("checkpoint", str(path), f"format {FORMAT}; it has format {self.about.get('format')}")
        for key in ("step", "ranks", "data_ranks"):
            if not isinstance(self.about.get(key), int):
                raise ConfigError("checkpoint", str(about), f"a file with a number of {key}")
        self.step: int = self.about["step"]
        self.ranks: int = self.about["ranks"]
        self.data_ranks: int = self.about["data_ranks"]

    def weights(self) -> Mapping[str, torch.Tensor]:
        """fp32 masters by canonical name; see :class:`~.tensor_files.TensorFiles`."""
        return TensorFiles(self.path, "weight", self.step)

    def state(self) -> Mapping[str, Mapping[str, torch.Tensor]]:
        """As the engine's ``full_state`` gave it, by canonical name; see :class:`~.tensor_files.StateFiles`."""
        return StateFiles(self.path, self.step)

    @property
    def has_reference(self) -> bool:
        """Whether a training engine left its own logits; a converted checkpoint has none."""
        return (self.path / "reference.safetensors").is_file()

    def reference(self) -> dict[str, torch.Tensor]:
        """A batch's tensors and the training engine's ``logits`` on them."""
        path = self.path / "reference.safetensors"
        try:
            return {name: tensor.clone() for name, tensor in MappedFile(path).items()}
        except (OSError, DamagedFileError) as error:
            raise ConfigError("checkpoint", str(path), f"a whole safetensors file; {error}") from error

    def data_states(self) -> list[dict[str, Any]]:
        """The positions of all ranks of the saved run that read data, in their order."""
        return [read_json(self.path / data_name(data_rank)) for data_rank in range(self.data_ranks)]

    def restore_random_states(self, rank: int, ranks: int) -> bool:
        """Put this process's random generators back to where they were.

        Args:
            rank: this process's, over the whole run.
            ranks: of the run.

        Returns:
            False where the checkpoint is of another number of ranks, whose generators say nothing about this one's:
            they stay as they are.
        """
        if ranks != self.ranks:
            return False
        path = self.path / random_name(rank)
        try:
            set_random_states(torch.load(path, weights_only=True))
        except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError) as error:
            raise ConfigError("checkpoint", str(path), f"a rank's random states: {type(error).__name__}") from error
        return True


def find_checkpoint(folder: Path, asked: str | None) -> Checkpoint | None:
    """The checkpoint to go on from. It changes nothing: many ranks ask at once.

    Args:
        folder: ``checkpoints`` of the run.
        asked: a checkpoint's path; empty for the latest of the run; None to start afresh.

    Returns:
        None where there is nothing to go on from and none was named.

    Raises:
        ConfigError: the named one is none; or a fresh start where there are checkpoints.
    """
    if asked:
        return Checkpoint(Path(asked))
    latest = latest_checkpoint(folder)
    if asked is None and latest is not None:
        raise ConfigError(
            "run_dir", str(folder.parent), f"a new folder, or --resume to go on from {latest.resolve().name}"
        )
    return Checkpoint(latest) if latest is not None else None
