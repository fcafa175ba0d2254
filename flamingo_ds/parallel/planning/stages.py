"""Pipeline stages of a Flamingo: costs from the model itself, bounds by :mod:`partition`, memory by :mod:`memory`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import torch
from rich.table import Table

from ...model import FlamingoForConditionalGeneration
from ...model.flops import PartFlops, count_flops
from .activations import ActivationBytes, BatchShape, count_activations
from .memory import MASTER_AND_MOMENTS, Buffers, Held, Layout, RankMemory, zero_memory
from .partition import Cost, stage_bounds
from .parts import PartSizes, part_sizes, tied_sizes

Batches = Sequence[tuple[BatchShape, int]]  # a rank's micro-batches of a step: shape, how many


class ModelCosts:
    """What a model costs, counted once for each shape and setting of activation checkpointing.

    Args:
        model: may be on the meta device; what trains is read from ``requires_grad``.
        dtype: of training.
        device_type: ``cuda`` or ``cpu``; see :func:`~flamingo_ds.parallel.planning.activations.count_activations`.
    """

    def __init__(
        self, model: FlamingoForConditionalGeneration, dtype: torch.dtype = torch.bfloat16, device_type: str = "cuda"
    ) -> None:
        self.model, self.dtype, self.device_type = model, dtype, device_type
        self.depth: int = model.config.text_config.num_hidden_layers
        self.counted: dict[tuple[BatchShape, int], ActivationBytes] = {}
        self.flops: dict[tuple[int, int, int], dict[str, PartFlops]] = {}

    @cached_property
    def sizes(self) -> dict[str, PartSizes]:
        """Parameters of each part."""
        return part_sizes(self.model)

    @cached_property
    def tied(self) -> PartSizes:
        """What the last stage holds a second time."""
        return tied_sizes(self.model)

    def activations(self, shape: BatchShape, every: int) -> ActivationBytes:
        """Of a micro-batch."""
        key = (shape, every)
        if key not in self.counted:
            self.counted[key] = count_activations(self.model, shape, self.dtype, every, self.device_type)
        return self.counted[key]

    def step_flops(self, batches: Batches, every: int) -> dict[str, int]:
        """Of a rank's whole step by part: forward, backward, and forward again where it is recomputed."""
        totals: dict[str, int] = {}
        for shape, count in batches:
            key = (shape.tokens, shape.frames, shape.image_size)
            if key not in self.flops:
                self.flops[key] = count_flops(self.model, *key)
            units = {"token": shape.sequences * shape.tokens, "image": shape.sequences * shape.images}
            for name, part in self.flops[key].items():
                once = part.forward + part.backward
                if every and part.backward and name not in ("vision", "head"):
                    once += part.forward / every
                stage_part = "vision" if name == "resampler" else name.removesuffix("/media")
                totals[stage_part] = totals.get(stage_part, 0) + round(count * units[part.unit] * once)
        return totals


@dataclass(frozen=True)
class StagePlan:
    """A pipeline's stages.

    Attributes:
        bounds: S + 1 indices of LM blocks.
        memory: of a rank of each stage.
        flops: of a rank of each stage in a step.
        frozen, trainable: elements of each stage's parameters, before any sharding.
    """

    bounds: tuple[int, ...]
    memory: tuple[RankMemory, ...]
    flops: tuple[int, ...]
    frozen: tuple[int, ...]
    trainable: tuple[int, ...]


def plan_stages(
    costs: ModelCosts, layout: Layout, batches: Batches, buffers: Buffers | None = None, memory_limit: int | None = None
) -> StagePlan:
    """The fastest bounds of a layout; the same on all ranks, as nothing is timed.

    Args:
        costs: of the model.
        layout: S, D, sharding and checkpointing.
        batches: micro-batches of one data-parallel rank in a step.
        buffers: of the DeepSpeed configuration.
        memory_limit: bytes of a GPU.

    Raises:
        ValueError: no bounds fit, and why.
    """
    buffers = buffers or Buffers()
    count = sum(number for _, number in batches)
    blocks, first, last, each = _costs(costs, layout, batches, buffers)
    bounds = stage_bounds(blocks, first, last, layout.stages, count, memory_limit, each)
    parts = [stage_parts(costs, bounds, stage) for stage in range(layout.stages)]
    memory = tuple(
        _stage_memory(costs, layout, batches, buffers, held, min(layout.stages - stage, count))
        for stage, held in enumerate(parts)
    )
    flops = costs.step_flops(batches, layout.every)
    fullest = max(rank.total for rank in memory)
    if memory_limit is not None and fullest > memory_limit:
        raise ValueError(
            f"{layout.stages} stages: the fullest needs {fullest / 1e9:.3f} GB; the limit is {memory_limit / 1e9:.3f}"
        )
    return StagePlan(
        bounds,
        memory,
        tuple(sum(flops.get(name, 0) for name in held) for held in parts),
        tuple(sum(sum(part.frozen) for part in held.values()) for held in parts),
        tuple(sum(sum(part.trainable) for part in held.values()) for held in parts),
    )


def stage_table(plan: StagePlan) -> Table:
    """A row a stage."""
    table = Table(
        "stage", "LM blocks", "frozen", "trainable", "share of the time", "memory GB", title="pipeline stages"
    )
    for stage, memory in enumerate(plan.memory):
        start, end = plan.bounds[stage : stage + 2]
        table.add_row(
            str(stage),
            f"{start} to {end - 1}" if end - start > 1 else str(start),
            f"{plan.frozen[stage]:,}",
            f"{plan.trainable[stage]:,}",
            f"{plan.flops[stage] / sum(plan.flops):.1%}",
            f"{memory.total / 1e9:.3f}",
        )
    return table


def _costs(
    costs: ModelCosts, layout: Layout, batches: Batches, buffers: Buffers
) -> tuple[list[Cost], Cost, Cost, Cost]:
    element = costs.dtype.itemsize
    flops = costs.step_flops(batches, layout.every)

    def cost(names: Iterable[str], more: PartSizes | None = None) -> Cost:
        names = [name for name in names if name in costs.sizes]
        sizes = [costs.sizes[name] for name in names] + ([more] if more else [])
        kept, transient = _activations(costs, layout, batches, names)
        trainable = sum(sum(size.trainable) for size in sizes)
        frozen, gathered = _frozen_bytes(sizes, layout, element)
        apart = buffers.gradient_element not in (None, element)
        gradients = element + (buffers.gradient_element or 0) * apart
        whole = trainable * (element + gradients) + ceil(trainable * MASTER_AND_MOMENTS / layout.data)
        return Cost(
            sum(flops.get(name, 0) for name in names), frozen + whole, kept, transient + gathered, trainable > 0
        )

    blocks = [cost((f"gated/{index}", f"lm/{index}")) for index in range(costs.depth)]
    first = cost(("vision", "embedding"))
    first = replace(first, in_flight=first.in_flight + _inputs(batches, element))
    packed = _crossing(costs, batches, layout.every)
    bucket = element * buffers.reduce_bucket_size * (buffers.gradient_element in (None, element))
    return blocks, first, cost(("head",), costs.tied), Cost(resident=bucket + 2 * packed, in_flight=packed)


def stage_parts(costs: ModelCosts, bounds: Sequence[int], stage: int) -> dict[str, PartSizes]:
    """Parameters of a stage by part; ``tied`` is what the last one holds besides."""
    names = ["vision", "embedding"] if stage == 0 else []
    for index in range(bounds[stage], bounds[stage + 1]):
        names += [f"gated/{index}", f"lm/{index}"]
    last = stage == len(bounds) - 2
    parts = {name: costs.sizes[name] for name in [*names, *(["head"] if last else [])] if name in costs.sizes}
    if last and stage:
        parts["tied"] = costs.tied
    return parts


def _stage_memory(
    costs: ModelCosts, layout: Layout, batches: Batches, buffers: Buffers, parts: dict[str, PartSizes], flights: int
) -> RankMemory:
    element = costs.dtype.itemsize
    kept, transient = _activations(costs, layout, batches, list(parts))
    if "vision" in parts:
        kept += _inputs(batches, element)
    packed = _crossing(costs, batches, layout.every)
    activations = flights * (kept + packed) + transient + 2 * packed
    held = Held.of(parts.items())
    one_stage = replace(layout, zero_stage=1, stages=1)
    count = sum(number for _, number in batches)
    rank = zero_memory(
        held, one_stage, activations, element, count, replace(buffers, overlap_comm=False), costs.device_type != "cpu"
    )
    frozen, gathered = _frozen_bytes(list(parts.values()), layout, element)
    return replace(rank, weights=element * sum(held.trainable) + frozen, gathered=gathered)


def _frozen_bytes(sizes: Sequence[PartSizes], layout: Layout, element: int) -> tuple[int, int]:
    """At rest, and gathered at the worst moment.

    A gathered unit is there as what the collective gave and as parameters, and the next one is fetched ahead; where
    units stay whole until their backward pass, all of them are.
    """
    whole = sum(sum(size.frozen) for size in sizes)
    if not layout.shard_frozen or layout.data == 1:
        return element * whole, 0
    resting = sum(ceil(count / layout.data) for size in sizes for count in size.frozen)
    largest = max((unit for size in sizes for unit in size.units), default=0)
    return element * resting, element * (2 * largest if layout.reshard else min(whole + largest, 2 * whole))


def _activations(costs: ModelCosts, layout: Layout, batches: Batches, names: Sequence[str]) -> tuple[int, int]:
    """Kept for a micro-batch in flight, and the most of any moment besides."""
    kept = transient = 0
    for shape, _ in batches:
        parts = [part for name, part in costs.activations(shape, layout.every).parts.items() if name in names]
        kept = max(kept, sum(part.kept for part in parts))
        transient = max([transient, *(max(part.backward, part.forward - part.kept) for part in parts)])
    return kept, transient


def _inputs(batches: Batches, element: int) -> int:
    return max(shape.input_bytes(element) for shape, _ in batches)


def _crossing(costs: ModelCosts, batches: Batches, every: int) -> int:
    """Bytes of what crosses a stage for the largest micro-batch: hidden states and latents, and three ids a token."""
    return max(crossing_bytes(costs.activations(shape, every), shape) for shape, _ in batches)


def crossing_bytes(activations: ActivationBytes, shape: BatchShape) -> int:
    """One micro-batch over one boundary, forward."""
    return activations.hidden + activations.latents + 3 * 8 * shape.sequences * shape.tokens
