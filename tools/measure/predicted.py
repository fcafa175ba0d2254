"""What tools/plan.py's arithmetic says of the small model."""

from functools import cache

import torch

from flamingo_ds.parallel.planning import Buffers
from flamingo_ds.parallel.planning.costs import ModelCosts
from flamingo_ds.parallel.planning.memory import RankMemory
from flamingo_ds.parallel.planning.rank_memory import data_parallel_memory
from flamingo_ds.parallel.planning.stages import plan_stages

from .model import Case, batches, settings, skeleton


def predict(case: Case) -> tuple[tuple[int, ...], list[RankMemory]]:
    """The stages' bounds and the memory of every rank."""
    layout, costs, buffers = case.layout, _costs(case.dtype), Buffers.of(settings(case).content)
    if layout.stages == 1:
        return (0, costs.depth), [data_parallel_memory(costs, layout, batches(), buffers)] * layout.ranks
    plan = plan_stages(costs, layout, batches(), buffers)
    return plan.bounds, [plan.memory[rank // layout.data] for rank in range(layout.ranks)]


@cache
def _costs(dtype: torch.dtype) -> ModelCosts:
    return ModelCosts(skeleton(), dtype, "cpu")
