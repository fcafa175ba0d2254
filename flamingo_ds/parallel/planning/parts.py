"""The parts of a Flamingo by pipeline stage, and the sizes of their parameters.

Names are those of :func:`flamingo_ds.model.flops.count_flops` where both know a part: ``vision`` (encoder and
resampler), ``embedding``, ``gated/<i>``, ``lm/<i>`` and ``head`` (what follows the last LM block).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ...model import FlamingoForConditionalGeneration
from ...model.decoder_blocks import decoder_blocks


@dataclass
class PartSizes:
    """Elements of one part's parameters.

    Attributes:
        frozen, trainable: of each parameter.
        decays: of each of the trainable ones, whether it is a matrix outside the resampler and the new tokens' rows;
            the optimizer keeps such in a group of their own, and works on one group at a time.
        units: the same frozen parameters by module that is gathered at once where frozen weights are sharded.
    """

    frozen: list[int] = field(default_factory=list)
    trainable: list[int] = field(default_factory=list)
    decays: list[bool] = field(default_factory=list)
    units: list[int] = field(default_factory=list)


def part_sizes(model: FlamingoForConditionalGeneration) -> dict[str, PartSizes]:
    """Of every part, each parameter once: what is tied belongs to ``embedding``."""
    places: dict[int, tuple[str, int]] = {}  # parameter -> part, unit
    for unit, (part, module) in enumerate(_modules(model)):
        for parameter in module.parameters():
            places.setdefault(id(parameter), (part, unit))
    found: dict[str, PartSizes] = {}
    gathered: dict[tuple[str, int], int] = {}
    for name, parameter in model.named_parameters():
        part, unit = places.get(id(parameter), ("head", -1))
        sizes = found.setdefault(part, PartSizes())
        (sizes.trainable if parameter.requires_grad else sizes.frozen).append(parameter.numel())
        if parameter.requires_grad:
            sizes.decays.append(parameter.ndim > 1 and not name.startswith(("resampler.", "new_token_")))
        else:
            gathered[part, unit] = gathered.get((part, unit), 0) + parameter.numel()
    for (part, _), elements in gathered.items():
        found[part].units.append(elements)
    return found


def tied_sizes(model: FlamingoForConditionalGeneration) -> PartSizes:
    """What a last stage holds besides ``head`` because it is tied to the embedding of the first."""
    pairs: list[tuple[Any, Any]] = [
        (model.language_model.get_output_embeddings(), model.get_input_embeddings()),
        (model.new_token_head, model.new_token_embedding),
    ]
    tied = PartSizes()
    for head, embedding in pairs:
        if head is not None and embedding is not None and head.weight is embedding.weight:
            (tied.trainable if head.weight.requires_grad else tied.frozen).append(head.weight.numel())
    tied.decays = [False] * len(tied.trainable)
    tied.units = list(tied.frozen)
    return tied


def _modules(model: FlamingoForConditionalGeneration) -> Iterable[tuple[str, nn.Module]]:
    """Part and module, the smaller module before the one that holds it; whatever is left over is the head's."""
    vision: Any = model.vision_model
    for module in vision.modules():
        if isinstance(module, nn.ModuleList):
            yield from (("vision", layer) for layer in module)
    yield "vision", vision
    yield "vision", model.resampler
    gated: Any = model.gated_cross_attention
    for name, block in gated.items():
        yield f"gated/{name}", block
    for index, block in enumerate(decoder_blocks(model.language_model)):
        yield f"lm/{index}", block
    for module in (model.new_token_embedding, *model.language_model.modules()):
        if isinstance(module, nn.Embedding):
            yield "embedding", module
    for module in (model.language_model.get_output_embeddings(), model.new_token_head):
        if module is not None:
            yield "head", module
