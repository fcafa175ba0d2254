"""How the batches of an optimizer step are cut over ranks and micro-steps."""

from dataclasses import dataclass

from ..errors import ConfigError
from .schema import DatasetConfig, RunConfig


@dataclass(frozen=True)
class BatchPlan:
    """How one dataset's share of an optimizer step is cut: ``micro_steps`` times ``micro_batch_size`` a rank."""

    dataset: str
    batch_size: int
    micro_batch_size: int
    micro_steps: int


def plan_batches(config: RunConfig, replicas: int) -> list[BatchPlan]:
    """Batch arithmetic: global batch = replicas x micro-batch x micro-steps, for each dataset.

    Args:
        config: the recipe.
        replicas: ranks with samples of their own: all, or with pipeline stages those of one stage.

    Raises:
        ConfigError: something does not divide.
    """
    return _plans("data.datasets", config.data.datasets, config, replicas)


def plan_probe(config: RunConfig, replicas: int) -> list[BatchPlan]:
    """The same of each of the probe's datasets, of which a probe takes ``probe.batches`` batches; none without probes.

    Raises:
        ConfigError: something does not divide.
    """
    return _plans("probe.datasets", config.probe.datasets, config, replicas) if config.probe.every else []


def _plans(key_of_all: str, datasets: dict[str, DatasetConfig], config: RunConfig, replicas: int) -> list[BatchPlan]:
    plans = []
    ranks = "ranks" if config.parallel.pipeline_stages == 1 else "replicas"
    for name, dataset in datasets.items():
        key = f"{key_of_all}.{name}"
        if dataset.batch_size % replicas:
            raise ConfigError(f"{key}.batch_size", dataset.batch_size, f"a multiple of the {replicas} {ranks}")
        share = dataset.batch_size // replicas
        micro = dataset.micro_batch_size or share
        if share % micro:
            raise ConfigError(
                f"{key}.micro_batch_size",
                micro,
                f"a divisor of {share}, each rank's share of batch_size = {dataset.batch_size} on {replicas} {ranks}",
            )
        plans.append(BatchPlan(name, dataset.batch_size, micro, share // micro))
    return plans
