"""transformers' Idefics configuration beside ours: tables of settings that read in both directions, and its limits."""

from typing import Any

from transformers import CLIPVisionConfig, IdeficsConfig, LlamaConfig

from ...config import ConfigError
from ...model import FlamingoConfig

FAKE_TOKEN = "<fake_token_around_image>"
# Same name, same meaning in Llama's configuration and in its own, which is flat.
TEXT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "initializer_range",
    "rms_norm_eps",
    "max_position_embeddings",
    "rope_parameters",
    "tie_word_embeddings",
)
# CLIP's name -> its own.
VISION = {
    "hidden_size": "embed_dim",
    **{
        name: name
        for name in (
            "image_size",
            "intermediate_size",
            "patch_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_channels",
            "hidden_act",
            "layer_norm_eps",
        )
    },
}
# Our recipe's key -> its own.
RESAMPLER = {
    "latents": "resampler_n_latents",
    "depth": "resampler_depth",
    "heads": "resampler_n_heads",
    "head_width": "resampler_head_dim",
    "query_key_norm": "qk_layer_norms_perceiver",
}


def to_idefics(config: FlamingoConfig, vocabulary: int) -> IdeficsConfig:
    """Its configuration of our model.

    Args:
        config: of a model in ``idefics`` style.
        vocabulary: rows of the embedding.

    Raises:
        ConfigError: the first thing that its class cannot be.
    """
    _require_idefics(config)
    text, vision = config.text_config, config.vision_config
    resampler: dict[str, Any] = {"use_resampler": True}
    resampler |= {theirs: getattr(config, _attribute(ours)) for ours, theirs in RESAMPLER.items()}
    return IdeficsConfig(
        **{name: getattr(text, name) for name in TEXT},
        vocab_size=vocabulary,
        additional_vocab_size=0,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        cross_layer_interval=config.cross_attention_every,
        qk_layer_norms=config.cross_attention_query_key_norm,
        use_resampler=True,
        vision_config={theirs: getattr(vision, ours) for ours, theirs in VISION.items()},
        perceiver_config=resampler,
        architectures=["IdeficsForVisionText2Text"],
    )


def text_of(theirs: IdeficsConfig) -> LlamaConfig:
    """Its language model, with the additional tokens in its vocabulary."""
    vocabulary = theirs.vocab_size + theirs.additional_vocab_size
    tokens = {name: getattr(theirs, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return LlamaConfig(**{name: getattr(theirs, name) for name in TEXT}, vocab_size=vocabulary, **tokens)


def vision_of(theirs: IdeficsConfig) -> CLIPVisionConfig:
    """Its vision encoder."""
    return CLIPVisionConfig(**{ours: getattr(theirs.vision_config, name) for ours, name in VISION.items()})


def recipe_keys_of(theirs: IdeficsConfig) -> dict[str, Any]:
    """Recipe keys of its resampler and gated blocks.

    Raises:
        ConfigError: something that ours cannot be.
    """
    if not theirs.use_resampler:
        raise ConfigError("use_resampler", False, "true: a Flamingo's gated blocks see a resampler's latents")
    if theirs.alpha_type != "float":
        raise ConfigError("alpha_type", theirs.alpha_type, "'float': one gate a block, not one a channel")
    prefix = "model.resampler."
    return {
        **{prefix + ours: getattr(theirs.perceiver_config, name) for ours, name in RESAMPLER.items()},
        prefix + "max_frames": 0,
        prefix + "width": None,
        "model.style": "idefics",
        "model.media_rule": "last",
        "model.gated_cross_attention.every": theirs.cross_layer_interval,
        "model.gated_cross_attention.offset": 0,
        "model.gated_cross_attention.heads": None,
        "model.gated_cross_attention.head_width": None,
        "model.gated_cross_attention.query_key_norm": theirs.qk_layer_norms,
    }


def _require_idefics(config: FlamingoConfig) -> None:
    text, vision = config.text_config, config.vision_config
    heads = text.num_attention_heads
    wanted: dict[str, tuple[Any, Any]] = {
        "model.style": (config.style, "idefics"),
        "model.media_rule": (config.media_rule, "last"),
        "model.language_model, its family": (text.model_type, "llama"),
        "model.language_model, attention_bias": (bool(getattr(text, "attention_bias", False)), False),
        "model.language_model, mlp_bias": (bool(getattr(text, "mlp_bias", False)), False),
        "model.language_model, head_dim": (getattr(text, "head_dim", None), text.hidden_size // heads),
        "model.vision_encoder, its family": (vision.model_type, "clip_vision_model"),
        "model.vision_encoder.class_token": (config.vision_class_token, True),
        "model.vision_encoder.features": (config.vision_features, "pre_norm"),
        "model.resampler.kind": (config.resampler_kind, "perceiver"),
        "model.gated_cross_attention.gate": (config.gate, "tanh"),
        "model.resampler.width": (config.resampler_width, config.vision_width),
        "model.resampler.max_frames": (config.max_frames, 0),
        "model.gated_cross_attention.offset": (config.cross_attention_offset, 0),
        "model.gated_cross_attention.heads": (config.cross_attention_heads, heads),
        "model.gated_cross_attention.head_width": (config.cross_attention_head_width, text.hidden_size // heads),
        "model.gated_cross_attention.feed_forward_multiplier": (config.feed_forward_multiplier, 4),
        "language model blocks left over by model.gated_cross_attention.every": (
            text.num_hidden_layers % config.cross_attention_every,
            0,
        ),
    }
    for key, (found, expected) in wanted.items():
        if found != expected:
            raise ConfigError(key, found, f"{expected!r}, as Idefics has it")


def _attribute(key: str) -> str:
    return f"resampler_{key}"
