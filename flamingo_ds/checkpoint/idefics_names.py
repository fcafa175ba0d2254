"""Parameter names of transformers' Idefics: gated blocks in a list of their own, keys and values apart."""

from collections.abc import Sequence

from .key_table import KeyTable, Row

Names = Sequence[tuple[str, str | tuple[str, ...]]]
_RESAMPLER = [
    Row("resampler.latents", "model.perceiver_resampler.latents"),
    Row("resampler.norm.{rest}", "model.perceiver_resampler.layer_norm.{rest}"),
]
_RESAMPLER_ATTENTION: Names = [
    ("norm_features.{rest}", "context_layer_norm.{rest}"),
    ("norm_latents.{rest}", "latents_layer_norm.{rest}"),
    ("query_norm.{rest}", "q_layer_norm.{rest}"),
    ("key_norm.{rest}", "k_layer_norm.{rest}"),
    ("to_queries.weight", "q_proj.weight"),
    ("to_keys_values.weight", ("k_proj.weight", "v_proj.weight")),
    ("to_out.weight", "output_proj.weight"),
]
_RESAMPLER_FEED_FORWARD: Names = [
    ("norm.{rest}", "ln.{rest}"),
    ("up.weight", "fc.weight"),
    ("down.weight", "c_proj.weight"),
]
_GATED: Names = [
    ("attention.norm.weight", "input_layernorm.weight"),
    ("attention.to_queries.weight", "cross_attn.q_proj.weight"),
    ("attention.to_keys_values.weight", ("cross_attn.k_proj.weight", "cross_attn.v_proj.weight")),
    ("attention.to_out.weight", "cross_attn.o_proj.weight"),
    ("attention.query_norm.weight", "cross_attn.q_layer_norm.weight"),
    ("attention.key_norm.weight", "cross_attn.k_layer_norm.weight"),
    ("attention_gate.gate", "alpha_cross_attn"),
    ("feed_forward.norm.weight", "post_attention_layernorm.weight"),
    ("feed_forward.gate.weight", "mlp.gate_proj.weight"),
    ("feed_forward.up.weight", "mlp.up_proj.weight"),
    ("feed_forward.down.weight", "mlp.down_proj.weight"),
    ("feed_forward_gate.gate", "alpha_dense"),
]


def idefics_table(gated_block_indices: Sequence[int]) -> KeyTable:
    """The table for a model.

    Args:
        gated_block_indices: the LM blocks that a gated block stands before; they number theirs 0, 1, 2, ...
    """
    rows = list(_RESAMPLER)
    rows += _under("resampler.blocks.{n}.attention", "model.perceiver_resampler.blocks.{n}.0", _RESAMPLER_ATTENTION)
    rows += _under(
        "resampler.blocks.{n}.feed_forward", "model.perceiver_resampler.blocks.{n}.1", _RESAMPLER_FEED_FORWARD
    )
    for number, index in enumerate(gated_block_indices):
        rows += _under(f"gated_cross_attention.{index}", f"model.gated_cross_attn_layers.{number}", _GATED)
    rows += [
        Row("vision_model.{rest}", "model.vision_model.{rest}"),
        Row("language_model.lm_head.{rest}", "lm_head.{rest}"),
        Row("language_model.model.{rest}", "model.{rest}"),
    ]
    return KeyTable(rows)


def _under(ours: str, theirs: str, names: Names) -> list[Row]:
    """Rows of one module."""
    return [
        Row(
            f"{ours}.{our}",
            f"{theirs}.{their}" if isinstance(their, str) else tuple(f"{theirs}.{piece}" for piece in their),
        )
        for our, their in names
    ]
