"""What a layout will need and where a pipeline is best cut, told from the model alone: nothing is run or timed."""

from .batch_shape import BatchShape
from .costs import Batches, ModelCosts
from .memory import Buffers, Layout, RankMemory
from .rank_memory import data_parallel_memory
from .stages import StagePlan, plan_stages, stage_table

__all__ = [
    "BatchShape",
    "Batches",
    "Buffers",
    "Layout",
    "ModelCosts",
    "RankMemory",
    "StagePlan",
    "data_parallel_memory",
    "plan_stages",
    "stage_table",
]
