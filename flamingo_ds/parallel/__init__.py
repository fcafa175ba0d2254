"""How a finished model is laid out over ranks, from outside; the only place beside checkpoint/ that knows DeepSpeed."""

from .engine import StepResult, TrainEngine
from .launch import Launch, init_distributed, read_launch, shutdown
from .materialize import Filler, ReadWeight, parameters_on_meta
from .plan import ParallelPlan, build_engine, plan_layout
from .topology import Topology

__all__ = [
    "Filler",
    "Launch",
    "ParallelPlan",
    "ReadWeight",
    "StepResult",
    "Topology",
    "TrainEngine",
    "build_engine",
    "init_distributed",
    "parameters_on_meta",
    "plan_layout",
    "read_launch",
    "shutdown",
]
