"""Handing a model to DeepSpeed, and what both kinds of engine then need of it."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import groups
from torch import nn

from ..batch import FlamingoBatch
from ..config import DeepSpeedSettings
from .engine import WeightedBatch
from .fp32_state import start_optimizer_state

# Keys of the JSON that ask for prints.
WANTED_PRINTS = ("dump_state", "memory_breakdown")


def wrap(model: nn.Module, optimizer: torch.optim.Optimizer, settings: DeepSpeedSettings) -> Any:
    """The DeepSpeed engine of a model, with Adam's moments in place."""
    # It keeps a pipeline's groups for good; the next engine in the same process would take them for its own.
    groups.mpu = None
    # It prints its seeds, and the memory at each of its optimizer's moments, always; its warnings go by its logger.
    with _float_buffers_kept(model), quiet(unless=any(settings.content.get(key) for key in WANTED_PRINTS)):
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings.content)
    start_optimizer_state(engine)
    return engine


def training_dtype(settings: DeepSpeedSettings) -> torch.dtype:
    """Of weights and activations."""
    return torch.bfloat16 if settings.content["bf16"]["enabled"] else torch.float32


@contextmanager
def quiet(unless: bool = False) -> Iterator[None]:
    """Drop what is printed, not what is logged or warned of; ``unless`` somebody asked for it."""
    with open(os.devnull, "w") as nowhere, nullcontext() if unless else redirect_stdout(nowhere):
        yield


def set_learning_rate(engine: Any, rate: float) -> None:
    """Of all parameter groups."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def count_over_ranks(
    micro_batches: Iterable[WeightedBatch], counters: Mapping[str, int], device: torch.device
) -> tuple[dict[str, int], dict[str, int]]:
    """Predicted tokens of each dataset, and the callers' counters, over all ranks in one reduction."""
    targets: dict[str, int] = {}
    for micro in micro_batches:
        targets[micro.dataset] = targets.get(micro.dataset, 0) + micro.batch.num_targets()
    total = torch.tensor([*targets.values(), *counters.values()], dtype=torch.int64, device=device)
    dist.all_reduce(total)
    summed = total.tolist()
    return (
        dict(zip(targets, summed[: len(targets)], strict=True)),
        dict(zip(counters, summed[len(targets) :], strict=True)),
    )


def mean_over_ranks(summed_loss: torch.Tensor, batches: Iterable[FlamingoBatch], device: torch.device) -> float:
    """The ranks' summed losses by the number of tokens that their micro-batches predict, in one reduction."""
    total = torch.tensor(
        [float(summed_loss), sum(batch.num_targets() for batch in batches)], dtype=torch.float64, device=device
    )
    dist.all_reduce(total)
    loss, targets = total.tolist()
    return float(loss / max(targets, 1.0))


def gate_name(parameter: str) -> str:
    """``gated_cross_attention.4.attention_gate.gate`` -> ``gate/4/attn``."""
    _, block, kind, _ = parameter.rsplit(".", 3)
    return f"gate/{block}/{'attn' if kind == 'attention_gate' else 'ffw'}"


@contextmanager
def _float_buffers_kept(model: nn.Module) -> Iterator[None]:
    """Keep buffers as they are while DeepSpeed casts the module.

    Rotary frequencies are fp32 buffers; in bf16 they are wrong from the third digit on, and the trained model would
    differ from the exported one, which transformers loads with fp32 frequencies.
    """
    kept: dict[str, Any] = {
        name: buffer.clone() for name, buffer in model.named_buffers() if buffer.is_floating_point()
    }
    yield
    for name, buffer in model.named_buffers():
        if name in kept:
            buffer.data = kept[name].to(buffer.device)
