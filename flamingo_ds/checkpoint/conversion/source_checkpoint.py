"""A training checkpoint as what every export begins with: its model without memory, and where each weight lies."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...config import RunConfig, load_recipe
from ...config.schema import Precision
from ...model import FlamingoConfig, FlamingoForConditionalGeneration
from ..fingerprint import Fingerprint, fingerprint, frozen_names, require_same_base
from ..initial_weights import InitialWeights, require_fit
from ..pretrained import skeleton
from ..store import Checkpoint
from ..stored_tensor import StoredTensor

EVERYTHING, TRAINED = "everything", "what trains"
TRAINING_DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp32: torch.float32}


@dataclass(frozen=True)
class SourceCheckpoint:
    """What was trained, and on what.

    Attributes:
        checkpoint: on disk.
        recipe: with which it was trained.
        model: without memory, frozen by its table.
        trained: fp32 masters by canonical name.
        initial: frozen weights, from their own source.
        base: their fingerprint, which is the checkpoint's.
    """

    checkpoint: Checkpoint
    recipe: RunConfig
    model: FlamingoForConditionalGeneration
    trained: Mapping[str, torch.Tensor]
    initial: InitialWeights
    base: Fingerprint

    @classmethod
    def open(cls, path: Path) -> "SourceCheckpoint":
        """Read everything but the weights, and hash the frozen ones.

        Raises:
            ConfigError: no checkpoint, a damaged one, or another base than it was trained on.
        """
        checkpoint = Checkpoint(path)
        recipe = load_recipe(str(checkpoint.path / "recipe.yaml"))
        model, _ = skeleton(FlamingoConfig.from_pretrained(checkpoint.path / "model"), recipe.model)
        trained = checkpoint.weights()
        require_fit(model, {name: tensor.shape for name, tensor in trained.items()}, str(checkpoint.path))
        initial = InitialWeights(model, recipe.model, recipe.seed)
        base = fingerprint(frozen_names(model), initial.stored, recipe.model)
        require_same_base(checkpoint.about.get("base"), base, str(checkpoint.path))
        return cls(checkpoint, recipe, model, trained, initial, base)

    @property
    def config(self) -> FlamingoConfig:
        """Of the model."""
        return self.model.config

    @property
    def training_dtype(self) -> torch.dtype:
        """In which it computed."""
        return TRAINING_DTYPES[self.recipe.train.precision]

    def stored(self, name: str) -> StoredTensor:
        """Any weight of the model, by its canonical name before new tokens are merged."""
        return StoredTensor.plain(self.trained[name]) if name in self.trained else self.initial.stored(name)

    def identity(self) -> dict[str, Any]:
        """What tells it from another, without reading it whole."""
        files = sorted(self.checkpoint.path.glob("weight*"))
        return {
            "base": self.base.sha256,
            "step": self.checkpoint.step,
            "files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        }

    def about(self, holds: str = EVERYTHING) -> dict[str, Any]:
        """For a manifest.

        Args:
            holds: which weights the export has, :data:`EVERYTHING` or :data:`TRAINED`.
        """
        layout = self.checkpoint.about.get("layout")
        return {"holds": holds, "base": self.base.to_json(), "step": self.checkpoint.step, "layout": layout}
