"""What a layout will need and where a pipeline is best cut, told from the model alone: nothing is run or timed."""

from .activations import BatchShape
from .memory import Buffers, Layout
from .stages import Batches, ModelCosts, StagePlan, plan_stages, stage_table

__all__ = ["BatchShape", "Batches", "Buffers", "Layout", "ModelCosts", "StagePlan", "plan_stages", "stage_table"]
