"""What a type cannot say about a recipe's values."""

import math
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError
from .schema import DatasetConfig, SampleFormat

POSITIVE = (
    "model.resampler.depth",
    "model.resampler.latents",
    "model.resampler.heads",
    "model.resampler.head_width",
    "model.resampler.width",
    "model.vision_encoder.image_size",
    "model.gated_cross_attention.every",
    "model.gated_cross_attention.heads",
    "model.gated_cross_attention.head_width",
    "model.gated_cross_attention.feed_forward_multiplier",
    "parallel.pipeline_stages",
    "parallel.timeout_s",
    "probe.batches",
    "data.stall_s",
    "train.max_steps",
    "train.save_every",
    "train.keep_last",
    "train.keep_every",
    "train.log_every",
    "train.optimizer.learning_rate",
    "train.optimizer.eps",
    "train.optimizer.max_grad_norm",
)
AT_LEAST_ZERO = (
    "seed",
    "data.workers",
    "data.retries",
    "data.retry_wait_s",
    "model.resampler.max_frames",
    "model.gated_cross_attention.offset",
    "train.optimizer.weight_decay",
    "train.schedule.warmup_steps",
    "parallel.watchdog_s",
    "probe.every",
)
POSITIVE_OF_DATASET = (
    "batch_size",
    "micro_batch_size",
    "max_images",
    "shuffle_buffer",
    "frames",
    "frames_per_second",
)
AT_LEAST_ZERO_OF_DATASET = ("min_image_side", "colour_jitter")
SHARES_OF_DATASET = ("p_next", "leading_space", "flip")
# Switches of one format, which would do nothing, unseen, in another.
ONLY_OF_FORMAT = {
    "random_window": "interleaved",
    "p_next": "interleaved",
    "keep_pages_without_images": "interleaved",
    "min_similarity": "interleaved",
    "pack": "image_text",
    "frames": "video_text",
    "frames_per_second": "video_text",
}


def validate(recipe: DictConfig) -> None:
    """Check ranges and combinations of a merged recipe without missing keys.

    Raises:
        ConfigError: the first thing found wrong.
    """
    for key in POSITIVE:
        _number(recipe, key, minimum=0, strictly=True)
    for key in AT_LEAST_ZERO:
        _number(recipe, key, minimum=0, strictly=False)
    for index, beta in enumerate(recipe.train.optimizer.betas):
        if not 0 <= beta < 1:
            raise ConfigError(f"train.optimizer.betas[{index}]", beta, "a number from 0 to below 1")
    if not 0 <= recipe.data.max_bad_share <= 1:
        raise ConfigError("data.max_bad_share", recipe.data.max_bad_share, "a share from 0 to 1")
    if not math.isfinite(recipe.model.gated_cross_attention.initial_gate):
        gate = recipe.model.gated_cross_attention.initial_gate
        raise ConfigError("model.gated_cross_attention.initial_gate", gate, "a finite number")
    if recipe.train.keep_every is not None and recipe.train.keep_last is None:
        raise ConfigError("train.keep_every", recipe.train.keep_every, "train.keep_last beside it; else all are kept")
    extra = recipe.model.extra_tokens
    if len(set(extra)) != len(extra) or not all(token.strip() for token in extra):
        raise ConfigError("model.extra_tokens", list(extra), "different tokens, none of them blank")
    checkpoint_interval(recipe.parallel.activation_checkpointing)
    if recipe.parallel.shard_frozen and recipe.parallel.pipeline_stages == 1:
        expected = "false without pipeline stages; ZeRO stage 3 shards frozen weights there (ds_configs/zero3.json)"
        raise ConfigError("parallel.shard_frozen", True, expected)
    _ablations(recipe)
    _data(recipe)
    _probe(recipe)


def _ablations(recipe: DictConfig) -> None:
    """Switches that leave others without meaning."""
    gated = recipe.model.gated_cross_attention
    if gated.gate.value == "none" and gated.initial_gate:
        raise ConfigError(
            "model.gated_cross_attention.initial_gate", gated.initial_gate, "0 where there is no gate (gate: none)"
        )
    if recipe.data.mixture.value == "in_turn" and recipe.parallel.pipeline_stages > 1:
        raise ConfigError("data.mixture", "in_turn", "accumulated with pipeline stages, whose steps are all alike")


def checkpoint_interval(setting: str) -> int:
    """``parallel.activation_checkpointing`` as a number: 0 never, 1 every block, n every n-th.

    Raises:
        ConfigError: it is none of these.
    """
    named = {"off": 0, "block": 1}
    if setting in named:
        return named[setting]
    if setting.isdecimal() and int(setting) > 0:
        return int(setting)
    raise ConfigError("parallel.activation_checkpointing", setting, "off, block, or an integer of at least 1")


def _data(recipe: DictConfig) -> None:
    if not recipe.data.datasets:
        raise ConfigError("data.datasets", {}, "at least one dataset")
    _datasets(recipe, "data.datasets")
    for index, steps in enumerate(recipe.data.skip):
        if len(steps) != 2 or not 1 <= steps[0] <= steps[1]:
            expected = "[FIRST, LAST] with 1 <= FIRST <= LAST, data steps to pass over"
            raise ConfigError(f"data.skip[{index}]", list(steps), expected)


def _datasets(recipe: DictConfig, key_of_all: str) -> None:
    for name in OmegaConf.select(recipe, key_of_all):
        if not re.fullmatch(r"[\w-]+", name):
            raise ConfigError(key_of_all, name, "names of letters, digits, - and _")
        prefix = f"{key_of_all}.{name}"
        for key in POSITIVE_OF_DATASET:
            _number(recipe, f"{prefix}.{key}", minimum=0, strictly=True)
        _number(recipe, f"{prefix}.max_tokens", minimum=1, strictly=True)
        _number(recipe, f"{prefix}.weight", minimum=0, strictly=True)
        _rules(recipe, prefix)


def _rules(recipe: DictConfig, prefix: str) -> None:
    dataset = OmegaConf.select(recipe, prefix)
    for key in AT_LEAST_ZERO_OF_DATASET:
        _number(recipe, f"{prefix}.{key}", minimum=0, strictly=False)
    _number(recipe, f"{prefix}.max_image_aspect", minimum=1, strictly=False)
    for key in SHARES_OF_DATASET:
        if dataset[key] is not None and not 0 <= dataset[key] <= 1:
            raise ConfigError(f"{prefix}.{key}", dataset[key], "a share from 0 to 1")
    if dataset.colour_jitter > 1:
        raise ConfigError(f"{prefix}.colour_jitter", dataset.colour_jitter, "at most 1")
    defaults = DatasetConfig()
    for key, owner in ONLY_OF_FORMAT.items():
        if dataset.format.value != owner and dataset[key] != getattr(defaults, key):
            raise ConfigError(f"{prefix}.{key}", dataset[key], f"format: {owner}, not {dataset.format.value}")
    if dataset.pack and dataset.max_images == 1:
        raise ConfigError(f"{prefix}.pack", True, "max_images above 1: each packed caption brings its image")
    rule = recipe.model.media_rule.value
    if dataset.p_next and rule == "all_previous":
        raise ConfigError(f"{prefix}.p_next", dataset.p_next, f"0 where model.media_rule is {rule}")


def _probe(recipe: DictConfig) -> None:
    probe, defaults = recipe.probe, DatasetConfig()
    if probe.every and not probe.datasets:
        raise ConfigError("probe.datasets", {}, "at least one dataset of validation shards; or probe.every=0")
    _datasets(recipe, "probe.datasets")
    for name, dataset in probe.datasets.items():
        for key in ("weight", "pack"):
            if dataset[key] != getattr(defaults, key):
                expected = "this key left out: a probe measures single sequences, each dataset for itself"
                raise ConfigError(f"probe.datasets.{name}.{key}", dataset[key], expected)
        if (sequences := probe.batches * dataset.batch_size) < 2:
            expected = "at least 2 sequences a probe, so that images can be shuffled"
            raise ConfigError(f"probe.datasets.{name}.batch_size", dataset.batch_size, expected)
        for shots in probe.shots:
            if not 0 <= shots < sequences:
                expected = f"numbers from 0 to {sequences - 1}: a probe of {name} has {sequences} sequences"
                raise ConfigError("probe.shots", list(probe.shots), expected)
    pairs = [name for name, dataset in probe.datasets.items() if dataset.format is not SampleFormat.interleaved]
    if probe.shots and not pairs:
        expected = "a dataset of pairs (image_text or video_text) among probe.datasets: examples are made of pairs"
        raise ConfigError("probe.shots", list(probe.shots), expected)
    if len(set(probe.shots)) != len(probe.shots):
        raise ConfigError("probe.shots", list(probe.shots), "different numbers")


def _number(recipe: DictConfig, key: str, minimum: float, strictly: bool) -> None:
    value: Any = OmegaConf.select(recipe, key)
    if value is None:
        return
    if not math.isfinite(value) or value < minimum or (strictly and value == minimum):
        raise ConfigError(key, value, f"a number {'above' if strictly else 'of at least'} {minimum}")
