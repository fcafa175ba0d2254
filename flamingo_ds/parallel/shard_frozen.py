"""Frozen weights of a stage, sharded over its data-parallel group with ``torch.distributed.fsdp.fully_shard``.

This gives a pipeline ZeRO-3's memory for what does not train: a rank holds 1 / (stages x replicas) of it. A unit's
weights are gathered around its ``forward``, which DeepSpeed, by now wrapped around the whole stage, does not notice.

It has to come after ``deepspeed.initialize``, which moves every parameter and cannot move a shard. So the units go
through it hollow, with parameters of no elements, and are filled and sharded one by one afterwards: a rank never holds
more than its shards and one whole unit.
"""

import warnings
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from ..model import FlamingoForConditionalGeneration
from ..model.decoder_blocks import decoder_blocks
from .materialize import Filler, hold, parameter_slots

# Some units give views, and torch warns on every rank against changing one in place. Nothing does that here to what
# blocks, embedding or head give: sharded and unsharded runs are equal bit for bit in the tests.
VIEW_WARNING = r"FSDP2-wrapped module \(\w+\) returned a view tensor"

LISTS = (nn.ModuleList, nn.Sequential)


def frozen_units(model: FlamingoForConditionalGeneration) -> dict[str, nn.Module]:
    """What is gathered as one, by its path: frozen LM blocks, layers of the vision encoder, LM embedding and head.

    What is left whole is small: norms, patch and position embeddings.
    """
    language_model = model.language_model
    names = {id(module): name for name, module in model.named_modules()}
    candidates = [
        *_innermost(model.vision_model),
        language_model.get_input_embeddings(),
        *decoder_blocks(language_model),
        language_model.get_output_embeddings(),
    ]
    return {names[id(unit)]: unit for unit in candidates if _is_frozen(unit)}


def hollow(units: dict[str, nn.Module]) -> dict[str, dict[str, torch.Tensor]]:
    """Replace every parameter of the units by one without elements; what they were, for :func:`fill_and_shard`."""
    were: dict[str, dict[str, torch.Tensor]] = {}
    for path, unit in units.items():
        were[path] = {}
        for name, slots in parameter_slots(unit, path).items():
            were[path][name] = getattr(*slots[0]).detach()
            hold(slots, torch.empty(0, dtype=were[path][name].dtype))
    return were


def fill_and_shard(
    units: dict[str, nn.Module],
    were: dict[str, dict[str, torch.Tensor]],
    filler: Filler,
    group: dist.ProcessGroup,
    reshard_after_forward: bool,
) -> None:
    """Give each unit its weights and leave a shard of them, one unit at a time.

    Args:
        units, were: see :func:`hollow`.
        filler: of the weights.
        group: the ranks to shard over.
        reshard_after_forward: gather again for the backward pass, or stay whole from forward to backward. Vision tower
            and embedding have no backward pass that would end it: they are always given back.
    """
    warnings.filterwarnings("ignore", VIEW_WARNING, UserWarning)
    mesh = DeviceMesh.from_group(group, torch.device(filler.device).type)
    for path, unit in units.items():
        for name, slots in parameter_slots(unit, path).items():
            value = filler.tensor(name, were[path][name])
            dist.broadcast(value, group=group, group_src=0)
            hold(slots, value)
        walked = path.startswith("language_model.") and not isinstance(unit, nn.Embedding)
        fully_shard(unit, mesh=mesh, reshard_after_forward=reshard_after_forward or not walked)


def _innermost(module: nn.Module) -> Iterator[nn.Module]:
    """Members of the innermost lists of blocks: small units, each called on its own."""
    for child in module.children():
        if isinstance(child, LISTS) and not any(_has_list(member) for member in child):
            yield from child
        else:
            yield from _innermost(child)


def _has_list(module: nn.Module) -> bool:
    return any(isinstance(inner, LISTS) for inner in module.modules())


def _is_frozen(unit: nn.Module) -> bool:
    parameters = list(unit.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
