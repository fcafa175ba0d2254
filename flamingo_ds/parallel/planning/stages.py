"""Pipeline stages of a Flamingo: costs from its model, bounds by :mod:`partition`, memory by :mod:`rank_memory`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from rich.table import Table

from .costs import Batches, ModelCosts, input_bytes, kept_and_transient, largest_crossing
from .memory import MASTER_AND_MOMENTS, Buffers, Layout, RankMemory
from .partition import Cost, stage_bounds
from .parts import PartSizes
from .rank_memory import all_stages, frozen_bytes


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
    plan = describe_stages(costs, layout, batches, buffers, bounds)
    fullest = max(rank.total for rank in plan.memory)
    if memory_limit is not None and fullest > memory_limit:
        raise ValueError(
            f"{layout.stages} stages: the fullest needs {fullest / 1e9:.3f} GB; the limit is {memory_limit / 1e9:.3f}"
        )
    return plan


def describe_stages(
    costs: ModelCosts, layout: Layout, batches: Batches, buffers: Buffers, bounds: tuple[int, ...]
) -> StagePlan:
    """What stages of given bounds have and need."""
    parts = [stage_parts(costs, bounds, stage) for stage in range(layout.stages)]
    flops = costs.step_flops(batches, layout.every)
    return StagePlan(
        bounds,
        all_stages(costs, layout, batches, buffers, parts),
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
        parts = {name: costs.sizes[name] for name in names if name in costs.sizes}
        kept, transient = kept_and_transient(costs, layout.every, batches, list(parts))
        parts |= {"tied": more} if more else {}
        sizes = list(parts.values())
        trainable = sum(sum(size.trainable) for size in sizes)
        frozen, gathered = frozen_bytes(parts, layout, element)
        apart = buffers.gradient_element not in (None, element)
        gradients = element + (buffers.gradient_element or 0) * apart
        whole = trainable * (element + gradients) + ceil(trainable * MASTER_AND_MOMENTS / layout.data)
        return Cost(
            sum(flops.get(name, 0) for name in parts), frozen + whole, kept, transient + gathered, trainable > 0
        )

    blocks = [cost((f"gated/{index}", f"lm/{index}")) for index in range(costs.depth)]
    first = cost(("vision", "embedding"))
    first = replace(first, in_flight=first.in_flight + input_bytes(batches, element))
    packed = largest_crossing(costs, batches, layout.every)
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
