"""The trained layers from a configuration: what a style's words mean in modules."""

from collections.abc import Callable
from functools import partial

from torch import nn

from .configuration import FlamingoConfig
from .feed_forward import FeedForward, SwiGLU
from .gated_cross_attention import GatedCrossAttentionBlock, MediaCrossAttention
from .mean_resampler import MeanResampler
from .perceiver_resampler import PerceiverResampler
from .styles import STYLES


def build_resampler(config: FlamingoConfig) -> PerceiverResampler | MeanResampler:
    """The resampler, between the vision encoder's features and the gated blocks."""
    if config.resampler_kind == "mean":
        return MeanResampler(config.vision_width, config.resampler_width, config.resampler_latents)
    return PerceiverResampler(
        config.vision_width,
        config.resampler_width,
        config.resampler_depth,
        config.resampler_latents,
        config.resampler_heads,
        config.resampler_head_width,
        config.max_frames,
        config.feed_forward_multiplier,
        STYLES[config.style].resampler_activation,
        config.resampler_query_key_norm,
    )


def build_gated_block(config: FlamingoConfig) -> GatedCrossAttentionBlock:
    """One gated block."""
    text, style = config.text_config, STYLES[config.style]
    width = text.hidden_size
    norm: Callable[[int], nn.Module] = nn.LayerNorm
    if style.rms_norm:
        norm = partial(nn.RMSNorm, eps=getattr(text, "rms_norm_eps", 1e-6))
    normed = config.cross_attention_query_key_norm
    attention = MediaCrossAttention(
        norm(width),
        width,
        config.resampler_width,
        config.cross_attention_heads,
        config.cross_attention_head_width,
        norm(config.cross_attention_head_width) if normed else None,
        norm(config.cross_attention_head_width) if normed else None,
    )
    hidden_width = config.feed_forward_multiplier * width
    if style.gated_feed_forward != "swiglu":
        branch: FeedForward | SwiGLU = FeedForward(norm(width), width, hidden_width, style.gated_feed_forward)
    else:
        hidden_width = getattr(text, "intermediate_size", None) or hidden_width
        branch = SwiGLU(norm(width), width, hidden_width, getattr(text, "hidden_act", "silu"))
    return GatedCrossAttentionBlock(attention, branch, None if config.gate == "none" else config.initial_gate)
