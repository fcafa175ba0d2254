"""What a layout will need and where a pipeline is best cut, told from the model alone: nothing is run or timed."""

from .activations import BatchShape
from .memory import Buffers, Layout
from .stages import Batches, choose_stage_bounds

__all__ = ["BatchShape", "Batches", "Buffers", "Layout", "choose_stage_bounds"]
