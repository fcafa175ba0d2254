"""A trainable parameter's fp32 master and Adam moments, whole, in and out of any ZeRO stage.

This is what makes a checkpoint fit every layout: below, DeepSpeed's shards; above, one tensor a name.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import nn

WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")


def start_optimizer_state(engine: Any) -> None:
    """Make Adam's moments exist, as zeros, before the first step.

    Stages 1 and 2 link parameters to their moments once, when the first parameter group has stepped; with several
    groups the others have no moments yet then and stay unlinked for ever (DeepSpeed 0.19.8). So all exist and are
    linked from the start.
    """
    optimizer = _base_optimizer(engine)
    for flat in _master_tensors(engine):
        optimizer.state[flat] = {"step": torch.zeros(()), **{key: torch.zeros_like(flat) for key in MOMENTS}}
    if hasattr(engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def set_optimizer_step(engine: Any, step: int) -> None:
    """Set the number of steps that Adam's bias correction goes by."""
    for state in _base_optimizer(engine).state.values():
        state["step"].fill_(step)


def get_full_state(engine: Any, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
    """``weight``, ``exp_avg`` and ``exp_avg_sq`` of a parameter in its own shape, fp32, on the CPU. Collective."""
    if _is_plain(engine):
        tensors = {WEIGHT: parameter.detach(), **{key: engine.optimizer.state[parameter][key] for key in MOMENTS}}
    else:
        tensors = {WEIGHT: safe_get_full_fp32_param(parameter)}
        tensors |= {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
    shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3 hides the shape behind an empty tensor
    return {key: tensor.detach().float().cpu().reshape(shape) for key, tensor in tensors.items()}


def set_full_state(engine: Any, parameter: nn.Parameter, tensors: Mapping[str, torch.Tensor]) -> None:
    """The inverse of :func:`get_full_state`; each rank takes its own part.

    Only the fp32 master is set: the parameter itself must hold the same weights in its own precision already.
    """
    if _is_plain(engine):
        parameter.data.copy_(tensors[WEIGHT])
        for key in MOMENTS:
            engine.optimizer.state[parameter][key].copy_(tensors[key])
        return
    if hasattr(parameter, "ds_tensor"):
        safe_set_local_fp32_param(parameter, _own_part(parameter, tensors[WEIGHT]))
        for key in MOMENTS:
            safe_set_local_optimizer_state(parameter, _own_part(parameter, tensors[key]), key)
        return
    safe_set_full_fp32_param(parameter, tensors[WEIGHT])
    for key in MOMENTS:
        safe_set_full_optimizer_state(parameter, tensors[key], key)


def _own_part(parameter: nn.Parameter, whole: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor under ZeRO-3.

    Parts are equal, so the last ranks' are padded, to nothing but padding for a gate of one element; DeepSpeed 0.19.8's
    own setter of whole tensors forgets that and runs past the end.
    """
    size = parameter.ds_tensor.numel()
    part = whole.flatten()[size * dist.get_rank() :][:size]
    return nn.functional.pad(part, (0, size - part.numel()))


def _is_plain(engine: Any) -> bool:
    """Stage 0: the optimizer works on the parameters themselves."""
    return isinstance(engine.optimizer, torch.optim.Optimizer)


def _base_optimizer(engine: Any) -> torch.optim.Optimizer:
    return engine.optimizer if _is_plain(engine) else engine.optimizer.optimizer


def _master_tensors(engine: Any) -> list[torch.Tensor]:
    """What the base optimizer steps on, by layout: the parameters, or one flat fp32 partition a group."""
    if _is_plain(engine):
        return [parameter for group in engine.optimizer.param_groups for parameter in group["params"]]
    for attribute in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition"):
        if hasattr(engine.optimizer, attribute):
            return list(getattr(engine.optimizer, attribute))
    raise AssertionError(f"unknown DeepSpeed optimizer {type(engine.optimizer).__name__}")
