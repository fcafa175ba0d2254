"""How a finished model is laid out over ranks, from outside; the only place beside checkpoint/ that knows DeepSpeed."""

from .activation_checkpointing import apply_activation_checkpointing
from .engine import StepResult, TrainEngine
from .launch import Launch, init_distributed, read_launch, shutdown
from .rank_board import connect_store
from .watchdog import Watchdog
from .zero import ZeroEngine

__all__ = [
    "Launch",
    "StepResult",
    "TrainEngine",
    "Watchdog",
    "ZeroEngine",
    "apply_activation_checkpointing",
    "connect_store",
    "init_distributed",
    "read_launch",
    "shutdown",
]
