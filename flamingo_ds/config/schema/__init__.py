"""Every key of a recipe, with its type, its default and what it means.

A recipe is a YAML file with these keys; what it leaves out has the default below, ``MISSING`` must be given.
"""

from .data import DataConfig, DatasetConfig, MixtureKind, ProbeConfig, SampleFormat
from .model import (
    Fit,
    FreezePreset,
    FreezeRowConfig,
    Gate,
    GatedCrossAttentionConfig,
    LanguageModelConfig,
    Library,
    MediaRule,
    ModelConfig,
    ResamplerConfig,
    ResamplerKind,
    Style,
    VisionEncoderConfig,
    VisionFeatures,
)
from .run import RunConfig
from .train import OptimizerConfig, ParallelConfig, Precision, ScheduleConfig, ScheduleKind, TrainConfig

__all__ = [
    "DataConfig",
    "DatasetConfig",
    "Fit",
    "FreezePreset",
    "FreezeRowConfig",
    "Gate",
    "GatedCrossAttentionConfig",
    "LanguageModelConfig",
    "Library",
    "MediaRule",
    "MixtureKind",
    "ModelConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "Precision",
    "ProbeConfig",
    "ResamplerConfig",
    "ResamplerKind",
    "RunConfig",
    "SampleFormat",
    "ScheduleConfig",
    "ScheduleKind",
    "Style",
    "TrainConfig",
    "VisionEncoderConfig",
    "VisionFeatures",
]
