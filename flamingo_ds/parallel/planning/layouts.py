"""Every layout of a recipe's model on a cluster: whether it fits, what it needs, how fast it may be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .costs import Batches, ModelCosts
from .memory import Buffers, Layout, RankMemory
from .rank_memory import data_parallel_memory
from .stages import StagePlan, plan_stages
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
    buffers_of: Callable[[Layout], Buffers],
    memory_limit: int,
    machine: Machine,
) -> Candidate:
    """One layout's figures, or why it cannot be used.

    Args:
        costs: of the model.
        layout: which.
        batches_of: a data-parallel rank's micro-batches by the number of data-parallel ranks; a ValueError where
            batch sizes do not divide.
        buffers_of: those of a layout's DeepSpeed configuration.
        memory_limit: bytes of a GPU.
        machine: the cluster.
    """
    try:
        batches, buffers = batches_of(layout.data), buffers_of(layout)
    except ValueError as error:
        return Candidate(layout, reason=str(error))
    if layout.stages == 1:
        memory = data_parallel_memory(costs, layout, batches, buffers)
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
