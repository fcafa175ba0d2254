"""Of many LM blocks of one kind three stand for all: what they cost is counted once.

Of each kind the first, the second and the last stay, as what blocks share (masks, latents' gradients) is made by the
first of them, forward or backward. The others become pass-throughs, as on a pipeline's stages.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from ...model import FlamingoForConditionalGeneration
from ...model.decoder_blocks import decoder_blocks
from ..stage import FAMILIES, PassThrough

Part = TypeVar("Part")


def take_out_repeated(model: FlamingoForConditionalGeneration, every: int) -> dict[int, int]:
    """Leave some of each kind of LM blocks, with the gated blocks before them, in place.

    Args:
        model: activation checkpointing is applied already.
        every: of that, as a block that recomputes is a kind of its own.

    Returns:
        For each block that was taken out the one that stands for it; empty for families without pass-throughs.
    """
    family = FAMILIES.get(model.config.text_config.model_type)
    if family is None:
        return {}
    blocks = decoder_blocks(model.language_model)
    kinds: dict[Any, list[int]] = {}
    for index in range(len(blocks)):
        kinds.setdefault(_kind(model, blocks, index, every), []).append(index)
    stand_ins: dict[int, int] = {}
    for members in kinds.values():
        if len(members) > 3:
            stand_ins |= dict.fromkeys(members[2:-1], members[1])
    for index in stand_ins:
        blocks[index] = PassThrough(family.tuples)
        if str(index) in model.gated_cross_attention:
            del model.gated_cross_attention[str(index)]
    return stand_ins


def put_back(parts: Mapping[str, Part], stand_ins: Mapping[int, int], depth: int) -> dict[str, str]:
    """Every part's name in the whole model, in the order of the forward pass -> the counted part that stands for it."""
    names = {name: name for name in ("vision", "embedding") if name in parts}
    for index in range(depth):
        for kind in ("gated", "lm"):
            counted = f"{kind}/{stand_ins.get(index, index)}"
            if counted in parts:
                names[f"{kind}/{index}"] = counted
    return names | {"head": "head"}


def _kind(model: FlamingoForConditionalGeneration, blocks: nn.ModuleList, index: int, every: int) -> Any:
    gated = list(model.gated_cross_attention)
    kind: list[Any] = [_form(blocks[index]), getattr(blocks[index], "attention_type", None)]
    types = getattr(model.config.text_config, "layer_types", None)
    kind += [types[index] if types else None, bool(every) and (index + 1) % every == 0]
    if str(index) in gated:
        place = gated.index(str(index))
        kind += [_form(model.gated_cross_attention[str(index)]), bool(every) and (place + 1) % every == 0]
    # In front of all that trains no gradient flows, and nothing is kept.
    kind.append(bool(gated) and index < int(gated[0]))
    return tuple(kind)


def _form(module: nn.Module) -> tuple[Any, ...]:
    weights = ((name, weight.shape, weight.requires_grad) for name, weight in module.named_parameters())
    return (type(module), *weights)
