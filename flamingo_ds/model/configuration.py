"""Configuration of a Flamingo: two frozen backbones and the layers that join them."""

from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from .styles import STYLES
from .vision_encoder import check_features

# Where features are taken: before or after the final norm of a ViT; a convolutional tower's last grid, flattened.
VISION_FEATURES = ("pre_norm", "post_norm", "grid")
# Which images a token sees: the last one before it (paper), the next one after it (p_next), all before it (ablation).
MEDIA_RULES = ("last", "next", "all_previous")
# What makes latents of the features: the paper's, or their mean (ablation).
RESAMPLERS = ("perceiver", "mean")
# On both branches of a gated block: the paper's, or nothing (ablation).
GATES = ("tanh", "none")

POSITIVE = (
    "resampler_width",
    "resampler_depth",
    "resampler_latents",
    "resampler_heads",
    "resampler_head_width",
    "cross_attention_heads",
    "cross_attention_head_width",
    "feed_forward_multiplier",
)


class FlamingoConfig(PreTrainedConfig):
    """Everything needed to build :class:`FlamingoForConditionalGeneration` without weights.

    Args:
        text_config: configuration of any decoder-only causal LM that transformers knows.
        vision_config: configuration of a transformers vision model: CLIP, SigLIP, or a timm network.
        vision_width: of its tokens; None where the vision configuration says it (``hidden_size``).
        vision_features: ``pre_norm`` takes the last block's output, ``post_norm`` what its final norm makes of it,
            ``grid`` a convolutional network's last feature map, flattened.
        vision_class_token: keep the class token beside the patch tokens.
        resampler_kind: ``perceiver``, or ``mean``, see :class:`MeanResampler`, to which depth, heads and frames
            mean nothing.
        resampler_depth, resampler_latents, resampler_heads, resampler_head_width: the Perceiver
            Resampler (paper, section 2.1).
        resampler_width: of its latents; None for the vision encoder's. Where they differ the features are projected
            (the paper's NFNet-F6 has 3072 channels, its resampler 1536).
        resampler_query_key_norm: LayerNorm on its queries and keys (an option of IDEFICS).
        max_frames: number of learned temporal encodings, one a frame; 0 for none. More frames than that get
            linearly interpolated ones.
        style: of the trained layers, see :data:`flamingo_ds.model.styles.STYLES`: ``paper``, ``openflamingo``
            or ``idefics``.
        cross_attention_every, cross_attention_offset: a gated block stands before LM blocks
            offset, offset + every, offset + 2 every, ... (paper: offset 0).
        cross_attention_heads, cross_attention_head_width: of the gated blocks; None means the style's own
            (``openflamingo``: 8 x 64, else as many heads as the LM, together as wide as it).
        cross_attention_query_key_norm: RMSNorm on queries and keys of the gated blocks (``idefics`` only).
        media_rule: which images a token sees: ``last`` before it (paper, section 2.3), ``next`` after it, or
            ``all_previous``.
        feed_forward_multiplier: hidden width of every trained feed-forward, in model widths (paper: 4); gated
            blocks in ``idefics`` style take the LM's own hidden width.
        gate: ``tanh``, or ``none``: both branches are added as they are.
        initial_gate: value of both gates of each block at the start (paper: 0, tanh(0) = 0).
        num_new_tokens, first_new_token_id: ids ``first_new_token_id ...`` have embedding rows of their own
            while the LM's matrix stays frozen; 0 new tokens means that they were merged into it.
        image_token_id, eoc_token_id: of ``<image>`` and ``<EOC>`` (end of chunk).

    Raises:
        ValueError: on a value that no model can be built from; the message names it.
    """

    model_type = "flamingo_ds"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig, "vision_config": AutoConfig}

    def __init__(
        self,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        vision_width: int | None = None,
        vision_features: str = "pre_norm",
        vision_class_token: bool = False,
        resampler_kind: str = "perceiver",
        resampler_width: int | None = None,
        resampler_depth: int = 6,
        resampler_latents: int = 64,
        resampler_heads: int = 16,
        resampler_head_width: int = 96,
        resampler_query_key_norm: bool = False,
        max_frames: int = 8,
        style: str = "paper",
        cross_attention_every: int = 1,
        cross_attention_offset: int = 0,
        cross_attention_heads: int | None = None,
        cross_attention_head_width: int | None = None,
        cross_attention_query_key_norm: bool = False,
        media_rule: str = "last",
        feed_forward_multiplier: int = 4,
        gate: str = "tanh",
        initial_gate: float = 0.0,
        num_new_tokens: int = 0,
        first_new_token_id: int = 0,
        image_token_id: int = 0,
        eoc_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        self.text_config = _sub_config(text_config, "llama")
        self.vision_config = _sub_config(vision_config, "clip_vision_model")
        own_width: int = getattr(self.vision_config, "hidden_size", 0)
        self.vision_width = vision_width or own_width
        self.vision_features = vision_features
        self.vision_class_token = vision_class_token
        self.resampler_kind = resampler_kind
        self.resampler_width = resampler_width or self.vision_width
        self.resampler_depth = resampler_depth
        self.resampler_latents = resampler_latents
        self.resampler_heads = resampler_heads
        self.resampler_head_width = resampler_head_width
        self.resampler_query_key_norm = resampler_query_key_norm
        self.max_frames = max_frames
        self.cross_attention_every = cross_attention_every
        self.cross_attention_offset = cross_attention_offset
        self.style = style
        known = STYLES.get(style, STYLES["paper"])  # an unknown one is refused below
        self.cross_attention_heads = cross_attention_heads or known.heads or self.text_config.num_attention_heads
        self.cross_attention_head_width = (
            cross_attention_head_width or known.head_width or self.text_config.hidden_size // self.cross_attention_heads
        )
        self.cross_attention_query_key_norm = cross_attention_query_key_norm
        self.media_rule = media_rule
        self.feed_forward_multiplier = feed_forward_multiplier
        self.gate = gate
        self.initial_gate = initial_gate
        self.num_new_tokens = num_new_tokens
        self.first_new_token_id = first_new_token_id
        self.image_token_id = image_token_id
        self.eoc_token_id = eoc_token_id
        # The LM decides whether its head is tied; the composite must say the same or saving would write both.
        kwargs["tie_word_embeddings"] = bool(getattr(self.text_config, "tie_word_embeddings", False))
        super().__init__(**kwargs)
        self._check()

    def _check(self) -> None:
        """Refuse what cannot be built."""
        self._check_choices()
        self._check_placement()
        self._check_vocabulary()

    def _check_choices(self) -> None:
        for name, allowed in (
            ("vision_features", VISION_FEATURES),
            ("media_rule", MEDIA_RULES),
            ("style", tuple(STYLES)),
            ("resampler_kind", RESAMPLERS),
            ("gate", GATES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {allowed}")
        check_features(self.vision_config.model_type, self.vision_features, self.vision_class_token)
        if self.vision_width < 1:
            family = self.vision_config.model_type
            raise ValueError(f"vision_width is {self.vision_width}; expected at least 1, as a {family} names none")
        if self.cross_attention_query_key_norm and self.style != "idefics":
            raise ValueError(f"cross_attention_query_key_norm is True; the {self.style} style has none")
        if self.max_frames < 0:
            raise ValueError(f"max_frames is {self.max_frames}; expected 0 (no temporal encodings) or more")

    def _check_placement(self) -> None:
        for name in POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        blocks = self.text_config.num_hidden_layers
        if self.cross_attention_every < 1:
            raise ValueError(f"cross_attention_every is {self.cross_attention_every}; expected at least 1")
        if not 0 <= self.cross_attention_offset < blocks:
            raise ValueError(
                f"cross_attention_offset is {self.cross_attention_offset}; expected 0 to {blocks - 1}, "
                f"as the language model has {blocks} blocks"
            )

    def _check_vocabulary(self) -> None:
        if self.num_new_tokens and self.first_new_token_id > self.text_config.vocab_size:
            raise ValueError(
                f"first_new_token_id is {self.first_new_token_id}, past the language model's "
                f"{self.text_config.vocab_size} embedding rows: the ids between would have no embedding"
            )
        for name in ("image_token_id", "eoc_token_id"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; the vocabulary has room for ids 0 to {self.vocab_size - 1} "
                    f"(language model {self.text_config.vocab_size}, new tokens {self.num_new_tokens})"
                )

    @property
    def gated_block_indices(self) -> list[int]:
        """Indices of the LM blocks that a gated cross-attention block stands before."""
        return list(range(self.cross_attention_offset, self.text_config.num_hidden_layers, self.cross_attention_every))

    @property
    def context_length(self) -> int | None:
        """See :func:`context_length`."""
        return context_length(self.text_config)

    @property
    def vocab_size(self) -> int:
        """Number of logits: the LM's rows and the new tokens' together."""
        return max(self.text_config.vocab_size, self.first_new_token_id + self.num_new_tokens)


def context_length(text_config: PreTrainedConfig) -> int | None:
    """Longest sequence that an LM knows positions for; None where it names none."""
    for name in ("max_position_embeddings", "max_seq_len", "n_positions"):
        if (length := getattr(text_config, name, None)) is not None:
            return int(length)
    return None


def _sub_config(value: dict[str, Any] | PreTrainedConfig | None, default_type: str) -> PreTrainedConfig:
    if isinstance(value, PreTrainedConfig):
        return value
    settings = dict(value or {})
    return AutoConfig.for_model(settings.pop("model_type", default_type), **settings)
