"""A Flamingo from a recipe: its frozen backbones from their sources, its own layers fresh."""

from dataclasses import dataclass

from ..config import ConfigError, ModelConfig
from ..config.freeze_presets import freeze_rows
from ..model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ..model.configuration import context_length
from ..model.freeze import FreezeReport, FreezeRow, apply_freeze_table
from ..model.processing import EOC_TOKEN
from ..model.prompt_media import IMAGE_TOKEN
from ..parallel import Filler, parameters_on_meta
from . import language_source, vision_source
from .initial_weights import InitialWeights


def build_processor(config: ModelConfig) -> FlamingoProcessor:
    """The backbones' tokenizer and image transform; ``<image>``, ``<EOC>`` and the recipe's tokens are added.

    Raises:
        ConfigError: a source that is not there or cannot be used.
    """
    tokenizer = language_source.tokenizer(config.language_model)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN, EOC_TOKEN, *config.extra_tokens]})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or EOC_TOKEN
    if context := context_length(language_source.text_config(config.language_model)):
        tokenizer.model_max_length = min(tokenizer.model_max_length, context)
    fit = config.vision_encoder.fit
    return FlamingoProcessor(
        vision_source.image_processor(config.vision_encoder), tokenizer, fit=fit.value if fit else None
    )


@dataclass(frozen=True)
class TokenIds:
    """What a model knows of its tokenizer.

    Attributes:
        first_new, num_new: ids of the tokens that the language model never had.
        image, eoc, bos, pad: ids.
    """

    first_new: int
    num_new: int
    image: int
    eoc: int
    bos: int | None = None
    pad: int | None = None

    @classmethod
    def of(cls, processor: FlamingoProcessor) -> "TokenIds":
        """Of a tokenizer to which the new tokens were added last."""
        tokenizer, image, eoc = processor.tokenizer, processor.image_token_id, processor.eoc_token_id
        first = min(image, eoc)
        return cls(first, len(tokenizer) - first, image, eoc, tokenizer.bos_token_id, tokenizer.pad_token_id)


def describe_model(config: ModelConfig, tokens: TokenIds) -> FlamingoConfig:
    """The model's configuration, from the backbones' configurations alone.

    Raises:
        ConfigError: a source that is not there, or backbones that no Flamingo can be built from.
    """
    text = language_source.text_config(config.language_model)
    vision = vision_source.vision_config(config.vision_encoder)
    resampler, gated = config.resampler, config.gated_cross_attention
    try:
        return FlamingoConfig(
            text_config=text,
            vision_config=vision,
            vision_width=vision_source.width(vision),
            vision_features=config.vision_encoder.features.value,
            vision_class_token=config.vision_encoder.class_token,
            resampler_kind=resampler.kind.value,
            resampler_width=resampler.width,
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
            gate=gated.gate.value,
            initial_gate=gated.initial_gate,
            num_new_tokens=tokens.num_new,
            first_new_token_id=tokens.first_new,
            image_token_id=tokens.image,
            eoc_token_id=tokens.eoc,
            bos_token_id=tokens.bos,
            eos_token_id=tokens.eoc,
            pad_token_id=tokens.pad,
        )
    except ValueError as error:
        raise ConfigError("model", config.language_model.source, f"values that fit together: {error}") from error


def skeleton(
    config: FlamingoConfig, freeze: ModelConfig
) -> tuple[FlamingoForConditionalGeneration, list[FreezeReport]]:
    """The model without memory (its buffers are real), with its freeze table applied.

    Raises:
        ConfigError: a freeze table that does not fit.
    """
    with parameters_on_meta():
        model = FlamingoForConditionalGeneration(config)
    report = _freeze(model, freeze)
    model.train()
    return model, report


def build_model(config: FlamingoConfig, recipe: ModelConfig, seed: int) -> FlamingoForConditionalGeneration:
    """The whole model on the CPU; backbones keep the dtype of their source, what is new is fp32.

    Raises:
        ConfigError: a source that is not there or does not fit.
    """
    model, _ = skeleton(config, recipe)
    Filler(InitialWeights(model, recipe, seed).read).fill(model)
    return model


def _freeze(model: FlamingoForConditionalGeneration, recipe: ModelConfig) -> list[FreezeReport]:
    rows = [FreezeRow(row.pattern, row.trainable) for row in freeze_rows(recipe)]
    try:
        return apply_freeze_table(model, rows)
    except ValueError as error:
        raise ConfigError("model.freeze", [row.pattern for row in rows], f"a table that fits: {error}") from error
