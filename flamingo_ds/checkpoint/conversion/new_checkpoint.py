"""A training checkpoint of step 0 from weights that came from elsewhere: to go on or to fine-tune from.

What trains is written in fp32, with moments of zero. What is frozen stays where the recipe says it comes from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ...config import ConfigError, RunConfig, to_yaml
from ...model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ..files import complete_or_absent, write_json
from ..fingerprint import fingerprint, frozen_names
from ..initial_weights import InitialWeights
from ..names import ABOUT, FORMAT, STATE_KINDS, index_name, shard_name
from ..pretrained import TokenIds, build_processor, describe_model, skeleton
from ..stored_tensor import StoredTensor
from .outputs import Output
from .shards import write_shard

FindTrained = Callable[[str], list[StoredTensor]]
"""A trained parameter by its canonical name: its pieces along the first dimension.

Raises:
    ConfigError: there is none.
"""


@dataclass(frozen=True)
class Target:
    """The model that a recipe describes, still without memory.

    Attributes:
        recipe: resolved.
        config, processor: of the model.
        model: frozen by its table.
        initial: what it would start with.
    """

    recipe: RunConfig
    config: FlamingoConfig
    processor: FlamingoProcessor
    model: FlamingoForConditionalGeneration
    initial: InitialWeights

    @classmethod
    def of(cls, recipe: RunConfig, processor: FlamingoProcessor | None = None) -> "Target":
        """Build it.

        Args:
            recipe: of the model.
            processor: None: the recipe's own.

        Raises:
            ConfigError: a source that is not there or does not fit.
        """
        processor = processor or build_processor(recipe.model)
        config = describe_model(recipe.model, TokenIds.of(processor))
        model, _ = skeleton(config, recipe.model)
        return cls(recipe, config, processor, model, InitialWeights(model, recipe.model, recipe.seed))


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint, which a new one may replace."""
    return (path / ABOUT).is_file()


def write_checkpoint(out: Path, target: Target, find: FindTrained, origin: str) -> Path:
    """Write ``out``, which ``--resume`` takes.

    Args:
        out: complete at the end or untouched.
        target: the model.
        find: its trained weights.
        origin: where they come from, for people.

    Raises:
        ConfigError: a weight that is missing or has another shape.
    """
    outputs = [_fp32(name, parameter.shape, find) for name, parameter in _trainable(target.model)]
    base = fingerprint(frozen_names(target.model), target.initial.stored, target.recipe.model)
    with complete_or_absent(out) as partial:
        for kind in STATE_KINDS:
            written = outputs if kind == STATE_KINDS[0] else [_zeros(output) for output in outputs]
            file = shard_name(kind, 0, 1)
            write_shard(partial / file, written, lambda count: None)
            size = sum(output.nbytes for output in written)
            weight_map = {output.name: file for output in written}
            write_json(partial / index_name(kind), {"metadata": {"total_size": size}, "weight_map": weight_map})
        target.config.save_pretrained(partial / "model")
        target.processor.save_pretrained(partial / "model")
        (partial / "recipe.yaml").write_text(to_yaml(target.recipe), encoding="utf-8")
        about = {"format": FORMAT, "step": 0, "ranks": 0, "data_ranks": 0, "layout": f"converted from {origin}"}
        write_json(partial / ABOUT, {**about, "base": base.to_json()})
    return out


def _trainable(model: FlamingoForConditionalGeneration) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _fp32(name: str, shape: torch.Size, find: FindTrained) -> Output:
    pieces = find(name)
    rows = sum(piece.shape[0] for piece in pieces) if shape else 0
    if any(piece.shape[1:] != shape[1:] for piece in pieces) or (shape and rows != shape[0]):
        found = " and ".join(str(tuple(piece.shape)) for piece in pieces)
        raise ConfigError(name, found, f"{tuple(shape)}, as the recipe's model has it")
    return Output(name, torch.float32, tuple(shape), lambda: pieces)


def _zeros(output: Output) -> Output:
    zeros = StoredTensor.plain(torch.zeros(1).expand(torch.Size(output.shape).numel()))
    return Output(output.name, torch.float32, output.shape, lambda: [zeros])
