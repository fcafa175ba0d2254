"""From a recipe to its mixture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import BatchPlan, DataConfig, DatasetConfig, RunConfig
from ..config.schema import MediaRule, MixtureKind
from .bad_samples import BadSampleLog
from .dataset import ShardDataset
from .decoder import Decoder
from .documents import reader_of
from .image_transform import Augmentation, ImageTransform
from .mixture import Mixture
from .packing import Packing
from .sequence import SequenceRules
from .shards import Patience, expand_shards
from .stream import SampleStream
from .workers import DecodePool


@dataclass(frozen=True)
class Tokens:
    """The tokenizer and the ids of ``<image>`` and ``<EOC>``."""

    tokenizer: Any
    image: int
    eoc: int


@dataclass(frozen=True)
class Place:
    """Whose share of the data: ``rank`` of ``world_size`` replicas."""

    rank: int = 0
    world_size: int = 1


def build_mixture(
    recipe: RunConfig,
    plans: list[BatchPlan],
    tokens: Tokens,
    transform: ImageTransform,
    place: Place,
    bad_samples: Path | None,
) -> Mixture:
    """All datasets of a recipe, from their beginning.

    Args:
        recipe: checked.
        plans: how each dataset's share of a step is cut.
        tokens: of the model.
        transform: of the vision encoder.
        place: whose share.
        bad_samples: file for bad samples, or None.

    Raises:
        ConfigError: shards that are not there, or whose beginning cannot be used.
    """
    data, pool = recipe.data, DecodePool(recipe.data.workers)
    patience = patience_of(data)
    datasets = []
    for plan in plans:
        config = data.datasets[plan.dataset]
        pool.register(plan.dataset, build_decoder(config, tokens, transform, recipe.model.media_rule))
        shards = expand_shards(f"data.datasets.{plan.dataset}.shards", config.shards)
        dataset = ShardDataset(
            plan.dataset,
            SampleStream(shards, place.rank, place.world_size, recipe.seed, config.shuffle_buffer, patience),
            pool,
            BadSampleLog(plan.dataset, data.max_bad_share, bad_samples),
            Packing(config.max_tokens, config.max_images) if config.pack else None,
            ahead=plan.micro_steps * plan.micro_batch_size,
        )
        dataset.check_start(patience)
        datasets.append(dataset)
    weights = [data.datasets[plan.dataset].weight for plan in plans]
    return Mixture(datasets, plans, weights, pool, data.skip, data.mixture is MixtureKind.in_turn)


def patience_of(data: DataConfig) -> Patience:
    """With shards that cannot be read."""
    return Patience(data.retries, data.retry_wait_s, data.stall_s)


def build_decoder(config: DatasetConfig, tokens: Tokens, transform: ImageTransform, rule: MediaRule) -> Decoder:
    """What happens to a sample of a dataset.

    Args:
        config: of the dataset.
        tokens: of the model.
        transform: of the vision encoder.
        rule: of the model, for datasets that leave ``p_next`` to it.
    """
    p_next = float(rule is MediaRule.next) if config.p_next is None else config.p_next
    rules = SequenceRules(
        tokens.tokenizer,
        tokens.image,
        tokens.eoc,
        config.max_tokens,
        config.max_images,
        random_window=config.random_window,
        p_next=p_next,
        eoc_before_image=config.eoc_before_image,
        eoc_at_end=config.eoc_at_end,
        leading_space=config.leading_space,
    )
    augmentation = Augmentation(config.flip, config.colour_jitter)
    return Decoder(reader_of(config), rules, transform, augmentation, config.keep_pages_without_images)
