"""A Flamingo from a recipe: its frozen backbones from their sources, its own layers fresh."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..config import ConfigError, ModelConfig
from ..config.freeze_presets import freeze_rows
from ..config.schema import Library
from ..model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ..model.freeze import FreezeReport, FreezeRow, apply_freeze_table
from ..model.processing import EOC_TOKEN, IMAGE_TOKEN
from . import open_clip_vision

# Have ``from_pretrained`` say what did not fit, which it otherwise passes over with a warning or a long traceback.
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
COMPLAIN: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}


def build_processor(config: ModelConfig) -> FlamingoProcessor:
    """The backbones' tokenizer and image transform; ``<image>`` and ``<EOC>`` are added to the tokenizer.

    Raises:
        ConfigError: a source that is not there or cannot be used.
    """
    source = config.language_model
    with _source_errors("model.language_model.source", source.source, "a transformers tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            source.source, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN, EOC_TOKEN]})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or EOC_TOKEN
    encoder = config.vision_encoder
    if encoder.library is Library.open_clip:
        return FlamingoProcessor(open_clip_vision.describe(encoder).image_processor, tokenizer)
    with _source_errors("model.vision_encoder.source", encoder.source, "a transformers image processor"):
        return FlamingoProcessor(AutoImageProcessor.from_pretrained(encoder.source), tokenizer)


def describe_model(config: ModelConfig, processor: FlamingoProcessor) -> FlamingoConfig:
    """The model's configuration, from the backbones' configurations alone.

    Raises:
        ConfigError: a source that is not there, or backbones that no Flamingo can be built from.
    """
    source = config.language_model
    with _source_errors("model.language_model.source", source.source, "a transformers causal language model"):
        text = AutoConfig.from_pretrained(
            source.source, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    resampler, gated = config.resampler, config.gated_cross_attention
    first = min(processor.image_token_id, processor.eoc_token_id)
    try:
        return FlamingoConfig(
            text_config=text,
            vision_config=_vision_config(config),
            vision_features=config.vision_encoder.features.value,
            vision_class_token=config.vision_encoder.class_token,
            resampler_depth=resampler.depth,
            resampler_latents=resampler.latents,
            resampler_heads=resampler.heads,
            resampler_head_width=resampler.head_width,
            resampler_query_key_norm=resampler.query_key_norm,
            max_frames=resampler.max_frames,
            cross_attention_every=gated.every,
            cross_attention_offset=gated.offset,
            cross_attention_heads=gated.heads,
            cross_attention_head_width=gated.head_width,
            cross_attention_query_key_norm=gated.query_key_norm,
            style=config.style.value,
            media_rule=config.media_rule.value,
            feed_forward_multiplier=gated.feed_forward_multiplier,
            initial_gate=gated.initial_gate,
            num_new_tokens=len(processor.tokenizer) - first,
            first_new_token_id=first,
            image_token_id=processor.image_token_id,
            eoc_token_id=processor.eoc_token_id,
            bos_token_id=processor.tokenizer.bos_token_id,
            eos_token_id=processor.eoc_token_id,
            pad_token_id=processor.tokenizer.pad_token_id,
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError("model", source.source, f"values that fit together: {error}") from error


def skeleton(
    config: FlamingoConfig, freeze: ModelConfig
) -> tuple[FlamingoForConditionalGeneration, list[FreezeReport]]:
    """The model on the meta device, with its freeze table applied: names, shapes and counts at no cost.

    Raises:
        ConfigError: a freeze table that does not fit.
    """
    with torch.device("meta"):
        model = FlamingoForConditionalGeneration(config)
    return model, _freeze(model, freeze)


def build_model(config: FlamingoConfig, recipe: ModelConfig, seed: int) -> FlamingoForConditionalGeneration:
    """The model with its backbones' weights, its own layers drawn from ``seed``, frozen by the table, on the CPU.

    Backbones keep the dtype of their source, what is new is fp32.

    Raises:
        ConfigError: a source that is not there or does not fit.
    """
    with torch.device("meta"):
        model = FlamingoForConditionalGeneration(config)
    source = recipe.language_model
    with _source_errors("model.language_model.source", source.source, "causal language model weights"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.source,
            revision=source.revision,
            trust_remote_code=source.trust_remote_code,
            dtype="auto",
            **COMPLAIN,
        )
        _require_whole(loaded[1])
    model.language_model = loaded[0]
    model.vision_model = _load_vision_model(recipe)
    torch.manual_seed(seed)
    for module in (model.resampler, model.gated_cross_attention, model.new_token_embedding, model.new_token_head):
        if module is not None:
            module.to_empty(device="cpu").apply(model._init_weights)
    _start_new_tokens(model)
    model.tie_weights()
    _freeze(model, recipe)
    return model.train()


def cast_parameters(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Frozen parameters to the training precision, trainable ones to fp32, in place; buffers keep their dtype."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else dtype)


def _freeze(model: FlamingoForConditionalGeneration, recipe: ModelConfig) -> list[FreezeReport]:
    rows = [FreezeRow(row.pattern, row.trainable) for row in freeze_rows(recipe)]
    try:
        return apply_freeze_table(model, rows)
    except ValueError as error:
        raise ConfigError("model.freeze", [row.pattern for row in rows], f"a table that fits: {error}") from error


@torch.no_grad()
def _start_new_tokens(model: FlamingoForConditionalGeneration) -> None:
    """New rows start as the average known token plus a little noise: a plausible word, told apart from the others."""
    pairs = [
        (model.new_token_embedding, model.language_model.get_input_embeddings()),
        (model.new_token_head, model.language_model.get_output_embeddings()),
    ]
    for new, known in pairs:
        if new is not None:
            mean, spread = known.weight.float().mean(0), known.weight.float().std()
            new.weight.copy_(mean + 0.1 * spread * torch.randn_like(new.weight))


def _vision_config(config: ModelConfig) -> PreTrainedConfig:
    encoder = config.vision_encoder
    if encoder.library is Library.open_clip:
        return open_clip_vision.describe(encoder).config
    with _source_errors("model.vision_encoder.source", encoder.source, "a transformers vision model"):
        found = AutoConfig.from_pretrained(encoder.source)
    vision: PreTrainedConfig = getattr(found, "vision_config", found)
    if vision.model_type != "clip_vision_model":
        raise ConfigError("model.vision_encoder.source", encoder.source, f"a CLIP ViT, not a {vision.model_type}")
    return vision


def _load_vision_model(config: ModelConfig) -> CLIPVisionModel:
    encoder = config.vision_encoder
    if encoder.library is Library.open_clip:
        return open_clip_vision.load(encoder)
    with _source_errors("model.vision_encoder.source", encoder.source, "CLIP vision weights"):
        loaded: Any = CLIPVisionModel.from_pretrained(encoder.source, dtype="auto", **COMPLAIN)
        _require_whole(loaded[1])
        return loaded[0]


def _require_whole(found: dict[str, Any]) -> None:
    """Refuse a source that lacks weights: transformers would draw them at random, and frozen they would stay so."""
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{len(missing)} weights are not there, such as {missing[0]}")
    if mismatched := sorted(found["mismatched_keys"]):
        name, given, wanted = mismatched[0]
        raise ValueError(f"{name} is {tuple(given)}, not {tuple(wanted)} as its configuration says")


@contextmanager
def _source_errors(key: str, source: str, expected: str) -> Iterator[None]:
    """A library's failure to load something as one line about the key that named it."""
    if not Path(source).is_dir() and not HUB_NAME.fullmatch(source):
        raise ConfigError(key, source, f"{expected}: a folder, which is not there, or a hub name (ORG/NAME)")
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(key, source, f"{expected}; {reason}") from error
