"""How a finished model is laid out over ranks, from outside; the only place beside checkpoint/ that knows DeepSpeed."""

from .activation_checkpointing import apply_activation_checkpointing
from .engine import StepResult, TrainEngine
from .launch import Launch, init_distributed, read_launch, shutdown
from .zero import ZeroEngine

__all__ = [
    "Launch",
    "StepResult",
    "TrainEngine",
    "ZeroEngine",
    "apply_activation_checkpointing",
    "init_distributed",
    "read_launch",
    "shutdown",
]
