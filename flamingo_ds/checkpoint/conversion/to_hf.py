"""A training checkpoint as a Hugging Face folder, streamed: the model is never built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...config import load_recipe
from ...config.schema import Precision
from ...model import FlamingoConfig, FlamingoForConditionalGeneration
from ..fingerprint import fingerprint, frozen_names, require_same_base
from ..initial_weights import InitialWeights, require_fit
from ..pretrained import skeleton
from ..store import Checkpoint
from ..stored_tensor import StoredTensor
from .folder import ShardPlan, require_free, write_folder
from .hf_folder import is_export, write_all_but_weights
from .outputs import Output, check_outputs, merged_outputs

TRAINING_DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp32: torch.float32}


@dataclass(frozen=True)
class ExportOptions:
    """How a checkpoint is exported.

    Attributes:
        dtype: of all weights; None: the precision of the training.
        max_shard_size: of a file, as Hugging Face writes it (5GB).
        trainable_only: leave the frozen weights out.
    """

    dtype: torch.dtype | None = None
    max_shard_size: str = "5GB"
    trainable_only: bool = False


def export_checkpoint(path: Path, out: Path, options: ExportOptions) -> Path:
    """Write a folder that ``AutoModelForImageTextToText`` and ``AutoProcessor`` load with ``trust_remote_code=True``.

    Args:
        path: of a checkpoint.
        out: complete at the end or untouched; an existing export is replaced.
        options: see there.

    Raises:
        ConfigError: no checkpoint, a wrong base, or ``out`` is something else than an export.
    """
    checkpoint = Checkpoint(path)
    require_free(out, is_export)
    recipe = load_recipe(str(checkpoint.path / "recipe.yaml"))
    config = FlamingoConfig.from_pretrained(checkpoint.path / "model")
    model, _ = skeleton(config, recipe.model)
    trained = checkpoint.weights()
    require_fit(model, {name: tensor.shape for name, tensor in trained.items()}, str(checkpoint.path))
    initial = InitialWeights(model, recipe.model, recipe.seed)
    base = fingerprint(frozen_names(model), initial.stored, recipe.model)
    require_same_base(checkpoint.about.get("base"), base, str(checkpoint.path))
    dtype = options.dtype or TRAINING_DTYPES[recipe.train.precision]

    def read(name: str) -> StoredTensor:
        return StoredTensor.plain(trained[name]) if name in trained else initial.stored(name)

    if options.trainable_only:
        outputs = [
            Output(name, dtype, tuple(tensor.shape), lambda name=name: [StoredTensor.plain(trained[name])])  # type: ignore[misc]
            for name, tensor in model.named_parameters()
            if tensor.requires_grad
        ]
    else:
        outputs = merged_outputs(model, read, dtype)
        check_outputs(outputs, {name: tensor.shape for name, tensor in _asked_for(model).items()}, "the model")
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)  # without memory still: its configuration will name the dtype
    plan = ShardPlan.of(outputs, options.max_shard_size)
    identity = {"base": base.sha256, "checkpoint": _identity(checkpoint), "dtype": str(dtype)}
    about = {"base": base.to_json(), "step": checkpoint.step, "layout": checkpoint.about["layout"]}
    write_folder(out, plan, identity, lambda folder: write_all_but_weights(folder, model, checkpoint, recipe), about)
    return out


def _asked_for(model: FlamingoForConditionalGeneration) -> dict[str, torch.Tensor]:
    """What ``from_pretrained`` looks for: a tied weight once."""
    names = {name for name, _ in model.named_parameters()}
    second = {name for name, _ in model.named_parameters(remove_duplicate=False)} - names
    return {name: tensor for name, tensor in model.state_dict().items() if name not in second}


def _identity(checkpoint: Checkpoint) -> dict[str, Any]:
    """What tells one checkpoint from another, without reading it whole."""
    files = sorted(checkpoint.path.glob("weight*"))
    return {
        "step": checkpoint.step,
        "files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
    }
