"""Every layout of a recipe's model on a cluster: whether it fits, what it needs, how fast it may be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .memory import Buffers, Held, Layout, RankMemory, largest, zero_memory
from .stages import Batches, ModelCosts, StagePlan, plan_stages
from .step_time import Machine, StepEstimate, estimate_pipeline, estimate_zero


@dataclass(frozen=True)
class Candidate:
    """One layout.

    Attributes:
        layout: the layout.
        memory: of the fullest rank; None where there is none to tell.
        estimate: of a step; None where it does not fit.
        plan: of the stages, for a pipeline.
        reason: why it cannot be used; empty where it fits.
    """

    layout: Layout
    memory: RankMemory | None = None
    estimate: StepEstimate | None = None
    plan: StagePlan | None = None
    reason: str = ""


def layouts(ranks: int, depth: int, bf16: bool) -> Iterator[Layout]:
    """ZeRO 0 to 3, and every S x D with D > 1 also with sharded frozen weights; each with and without checkpointing."""
    for every in (0, 1):
        for stage in range(1 if bf16 else 0, 4):  # DeepSpeed keeps no fp32 masters in stage 0
            yield Layout(stage, ranks, every=every)
        for stages in range(2, min(ranks, depth) + 1):
            if ranks % stages:
                continue
            data = ranks // stages
            yield Layout(1, data, stages, every=every)
            if data > 1:
                yield Layout(1, data, stages, shard_frozen=True, every=every)
                yield Layout(1, data, stages, shard_frozen=True, reshard=False, every=every)


def judge(
    costs: ModelCosts,
    layout: Layout,
    batches_of: Callable[[int], Batches],
    buffers: Buffers,
    memory_limit: int,
    machine: Machine,
) -> Candidate:
    """One layout's figures, or why it cannot be used.

    Args:
        costs: of the model.
        layout: which.
        batches_of: a data-parallel rank's micro-batches by the number of data-parallel ranks; a ValueError where
            batch sizes do not divide.
        buffers: of the DeepSpeed configuration.
        memory_limit: bytes of a GPU.
        machine: the cluster.
    """
    try:
        batches = batches_of(layout.data)
    except ValueError as error:
        return Candidate(layout, reason=str(error))
    if layout.stages == 1:
        counted = [
            (costs.activations(shape, layout.every), shape.input_bytes(costs.dtype.itemsize)) for shape, _ in batches
        ]
        held, count = Held.of(costs.sizes.items()), sum(number for _, number in batches)
        foreach = costs.device_type != "cpu"
        memory = zero_memory(held, layout, largest(counted), costs.dtype.itemsize, count, buffers, foreach)
        if memory.total > memory_limit:
            return Candidate(layout, memory, reason=_too_full(memory.total, memory_limit))
        return Candidate(layout, memory, estimate_zero(costs, layout, batches, buffers, machine))
    try:
        plan = plan_stages(costs, layout, batches, buffers)
    except ValueError as error:
        return Candidate(layout, reason=str(error))
    memory = max(plan.memory, key=lambda rank: rank.total)
    if memory.total > memory_limit:
        try:
            plan = plan_stages(costs, layout, batches, buffers, memory_limit)
        except ValueError:
            return Candidate(layout, memory, reason=_too_full(memory.total, memory_limit))
        memory = max(plan.memory, key=lambda rank: rank.total)
    estimate = estimate_pipeline(costs, plan, layout, batches, buffers, machine)
    return Candidate(layout, memory, estimate, plan)


def _too_full(needed: int, limit: int) -> str:
    return f"needs {needed / 1e9:.1f} GB of {limit / 1e9:.1f}"
