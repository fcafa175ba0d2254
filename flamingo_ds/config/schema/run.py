"""A whole recipe."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from .data import DataConfig, ProbeConfig
from .model import ModelConfig
from .train import ParallelConfig, TrainConfig


@dataclass
class RunConfig:
    """A whole recipe."""

    run_dir: str = MISSING
    """Folder of this run; ``--resume`` looks here."""
    seed: int = 0
    """Of initial weights and data order."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
