"""Parameter names of OpenFlamingo 2.0.1, whose gated blocks are found under the LM block that they stand before.

Otter's folders hold the same model; its names differ in a few places.
"""

from .key_table import KeyTable, Row

_RESAMPLER = [
    Row("resampler.latents", "perceiver.latents"),
    Row("resampler.frame_encodings", "perceiver.frame_embs"),
    Row("resampler.norm.{rest}", "perceiver.norm.{rest}"),
    Row("resampler.blocks.{n}.attention.norm_features.{rest}", "perceiver.layers.{n}.0.norm_media.{rest}"),
    Row("resampler.blocks.{n}.attention.norm_latents.{rest}", "perceiver.layers.{n}.0.norm_latents.{rest}"),
    Row("resampler.blocks.{n}.attention.to_queries.weight", "perceiver.layers.{n}.0.to_q.weight"),
    Row("resampler.blocks.{n}.attention.to_keys_values.weight", "perceiver.layers.{n}.0.to_kv.weight"),
    Row("resampler.blocks.{n}.attention.to_out.weight", "perceiver.layers.{n}.0.to_out.weight"),
    Row("resampler.blocks.{n}.feed_forward.norm.{rest}", "perceiver.layers.{n}.1.0.{rest}"),
    Row("resampler.blocks.{n}.feed_forward.up.weight", "perceiver.layers.{n}.1.1.weight"),
    Row("resampler.blocks.{n}.feed_forward.down.weight", "perceiver.layers.{n}.1.3.weight"),
]
_GATED = [
    ("attention.norm.{rest}", "attn.norm.{rest}"),
    ("attention.to_queries.weight", "attn.to_q.weight"),
    ("attention.to_keys_values.weight", "attn.to_kv.weight"),
    ("attention.to_out.weight", "attn.to_out.weight"),
    ("attention_gate.gate", "attn_gate"),
    ("feed_forward.norm.{rest}", "ff.0.{rest}"),
    ("feed_forward.up.weight", "ff.1.weight"),
    ("feed_forward.down.weight", "ff.3.weight"),
    ("feed_forward_gate.gate", "ff_gate"),
]
# Second names of modules that have one already, and buffers that older transformers saved.
_DROPPED = [
    "lang_encoder.old_decoder_blocks.{rest}",
    "lang_encoder.gated_cross_attn_layers.{rest}",
    "{rest}.rotary_emb.inv_freq",
    "{rest}.attention.bias",
    "{rest}.attention.masked_bias",
]
_ATTENTION = ("norm_media.{rest}", "norm_latents.{rest}", "to_q.weight", "to_kv.weight", "to_out.weight")


def openflamingo_table(block_path: str) -> KeyTable:
    """The table for a language model.

    Args:
        block_path: where it keeps its blocks, see :data:`flamingo_ds.model.decoder_blocks.BLOCK_PATHS`.

    Returns:
        A table of everything but the vision encoder, whose names are open_clip's.
    """
    block = f"lang_encoder.{block_path}.{{n}}"
    gated = [
        Row(f"gated_cross_attention.{{n}}.{ours}", f"{block}.gated_cross_attn_layer.{theirs}")
        for ours, theirs in _GATED
    ]
    language_model = [
        Row(f"language_model.{block_path}.{{n}}.{{rest}}", f"{block}.decoder_layer.{{rest}}"),
        Row("language_model.{rest}", "lang_encoder.{rest}"),
    ]
    return KeyTable([*_RESAMPLER, *gated, *language_model], _DROPPED)


def otter_table(block_path: str) -> KeyTable:
    """Otter's names as OpenFlamingo's.

    Args:
        block_path: as for :func:`openflamingo_table`.
    """
    gated = f"lang_encoder.{block_path}.{{n}}.gated_cross_attn_layer"
    rows = [Row(f"perceiver.layers.{{n}}.0.{name}", f"perceiver.layers.{{n}}.{name}") for name in _ATTENTION]
    rows += [
        Row("perceiver.layers.{n}.1.{rest}", "perceiver.layers.{n}.feed_forward.{rest}"),
        Row(f"{gated}.ff.{{rest}}", f"{gated}.feed_forward.{{rest}}"),
        Row("{rest}", "{rest}"),
    ]
    return KeyTable(rows)
