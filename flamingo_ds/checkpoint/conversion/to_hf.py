"""A training checkpoint as a Hugging Face folder, streamed: the model is never built."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..stored_tensor import StoredTensor
from .folder import ShardPlan, require_free, write_folder
from .hf_folder import is_export, write_all_but_weights
from .outputs import Output, asked_for, check_outputs, merged_outputs
from .source_checkpoint import EVERYTHING, TRAINED, SourceCheckpoint


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
        ConfigError: no checkpoint, a damaged one, a wrong base, or ``out`` is something else than an export.
    """
    require_free(out, is_export)
    source = SourceCheckpoint.open(path)
    model, dtype = source.model, options.dtype or source.training_dtype
    if options.trainable_only:
        outputs = [
            Output(name, dtype, tuple(tensor.shape), lambda name=name: [StoredTensor.plain(source.trained[name])])  # type: ignore[misc]
            for name, tensor in model.named_parameters()
            if tensor.requires_grad
        ]
    else:
        outputs = merged_outputs(model, source.stored, dtype)
        check_outputs(outputs, {name: tensor.shape for name, tensor in asked_for(model).items()}, "the model")
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)  # without memory still: its configuration will name the dtype
    plan = ShardPlan.of(outputs, options.max_shard_size)
    identity = {**source.identity(), "dtype": str(dtype)}
    about = source.about(TRAINED if options.trainable_only else EVERYTHING)
    write_folder(out, plan, identity, lambda folder: write_all_but_weights(folder, source), about)
    return out
