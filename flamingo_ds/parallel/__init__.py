"""How a finished model is laid out over ranks, from outside; the only place beside checkpoint/ that knows DeepSpeed."""

from ..launching.launch import Launch
from ..launching.rank_source import read_launch
from .engine import Doing, StepResult, TrainEngine
from .launch import init_distributed, shutdown
from .materialize import Filler, ReadWeight, parameters_on_meta
from .plan import ParallelPlan, build_engine, count_memory, describe_stages, plan_layout
from .planning import Batches, BatchShape
from .rank_board import connect_store
from .topology import Topology
from .watchdog import Watchdog

__all__ = [
    "BatchShape",
    "Batches",
    "Doing",
    "Filler",
    "Launch",
    "ParallelPlan",
    "ReadWeight",
    "StepResult",
    "Topology",
    "TrainEngine",
    "Watchdog",
    "build_engine",
    "connect_store",
    "count_memory",
    "describe_stages",
    "init_distributed",
    "parameters_on_meta",
    "plan_layout",
    "read_launch",
    "shutdown",
]
