"""Recipes and DeepSpeed configurations: read, merged, checked. Nothing here imports torch."""

from ..errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_HALTED, EXIT_STOPPED, ConfigError
from .batches import BatchPlan, plan_batches, plan_probe
from .deepspeed import DeepSpeedSettings, load_deepspeed_settings
from .load import load_recipe, to_yaml
from .schema import DataConfig, DatasetConfig, ModelConfig, RunConfig

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_DONE",
    "EXIT_FAILED",
    "EXIT_HALTED",
    "EXIT_STOPPED",
    "BatchPlan",
    "ConfigError",
    "DataConfig",
    "DatasetConfig",
    "DeepSpeedSettings",
    "ModelConfig",
    "RunConfig",
    "load_deepspeed_settings",
    "load_recipe",
    "plan_batches",
    "plan_probe",
    "to_yaml",
]
