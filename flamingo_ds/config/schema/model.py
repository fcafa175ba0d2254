"""What the Flamingo is made of: the keys of a recipe's ``model`` section."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING


class Library(StrEnum):
    """Whose vision encoder it is."""

    open_clip = "open_clip"
    transformers = "transformers"


class VisionFeatures(StrEnum):
    """Where the vision encoder's features are taken."""

    pre_norm = "pre_norm"
    """A ViT's last block's tokens, before its final norm."""
    post_norm = "post_norm"
    """After the final norm."""
    grid = "grid"
    """A convolutional network's last feature map, flattened (paper: NFNet)."""


class Style(StrEnum):
    """Of the trained layers; ``flamingo_ds/model/styles.py`` compares them."""

    paper = "paper"
    openflamingo = "openflamingo"
    idefics = "idefics"


class MediaRule(StrEnum):
    """Which images a token sees."""

    last = "last"
    """The last one before it (paper, section 2.3)."""
    next = "next"
    """The first one after it."""
    all_previous = "all_previous"
    """All before it; an ablation of the paper, 63.5 against 70.7."""


class ResamplerKind(StrEnum):
    """What makes latents of the vision encoder's features."""

    perceiver = "perceiver"
    """The paper's (section 2.1)."""
    mean = "mean"
    """The mean of an image's features through one matrix; an ablation (the paper's MLP instead: 66.6 against 70.7).
    Refused by other formats."""


class Gate(StrEnum):
    """On both branches of a gated block."""

    tanh = "tanh"
    """One learned number, as tanh(0) = 0 at the start."""
    none = "none"
    """Nothing; an ablation of the paper, 66.5 against 70.7. Refused by other formats."""


class Fit(StrEnum):
    """How a picture that is not square becomes square."""

    crop = "crop"
    """Its shorter side is resized to the image size, the middle is cut out."""
    pad = "pad"
    """Padded with the encoder's mean colour, nothing is cut off (paper, appendix A.3)."""
    squash = "squash"
    """Resized without regard to its aspect."""


class FreezePreset(StrEnum):
    """Rows that the freeze table starts with; ``flamingo_ds/config/freeze_presets.py`` spells them out."""

    paper = "paper"
    fine_tuning = "fine_tuning"
    language_model_unfrozen = "language_model_unfrozen"
    everything = "everything"


@dataclass
class LanguageModelConfig:
    """The frozen causal LM and its tokenizer."""

    source: str = MISSING
    """A transformers folder or a hub name."""
    revision: str | None = None
    """Branch, tag or commit of a hub name."""
    trust_remote_code: bool = False
    """Run modelling code that comes with the weights."""
    architecture: dict[str, Any] | None = None
    """A transformers configuration (``model_type`` and what differs from its defaults) instead of the one at
    ``source``, which then gives the tokenizer alone. Weights are drawn at random."""
    from_scratch: bool = False
    """Draw the weights at random instead of reading them: an ablation of the paper, with its own freeze rows."""


@dataclass
class VisionEncoderConfig:
    """The frozen vision encoder."""

    library: Library = Library.open_clip
    source: str = ""
    """open_clip: a model name, ``hf-hub:ORG/NAME`` or ``local-dir:FOLDER``; transformers: a folder or hub name. It can
    be left out only where ``architecture`` is given."""
    pretrained: str | None = None
    """open_clip's tag of weights (openai, laion2b_s32b_b82k, ...) where ``source`` is a model name."""
    features: VisionFeatures = VisionFeatures.pre_norm
    class_token: bool = False
    """Keep the class token among the vision tokens."""
    image_size: int | None = None
    """Pixels a side; None: as the encoder was trained. A ViT's position embeddings are interpolated."""
    fit: Fit | None = None
    """Of pictures that are not square; None: as the encoder was trained. It holds in training and in the export."""
    architecture: dict[str, Any] | None = None
    """A transformers configuration instead of the one at ``source``, which then gives the image transform alone, or
    CLIP's without it. Weights are drawn at random."""


@dataclass
class ResamplerConfig:
    """The Perceiver Resampler (paper, table 4)."""

    kind: ResamplerKind = ResamplerKind.perceiver
    """To ``mean``, depth, heads and frames mean nothing."""
    width: int | None = None
    """Of its latents; None: the vision encoder's. Features of another width are projected."""
    depth: int = 6
    latents: int = 64
    heads: int = 16
    head_width: int = 96
    query_key_norm: bool = False
    """LayerNorm on queries and keys (an option of IDEFICS)."""
    max_frames: int = 8
    """Temporal encodings; videos of more frames get interpolated ones; 0: none at all."""


@dataclass
class GatedCrossAttentionConfig:
    """The gated blocks (paper, tables 4 and 5)."""

    every: int = 1
    """One gated block before every so many LM blocks."""
    offset: int = 0
    """Index of the first LM block that has one."""
    heads: int | None = None
    """None: the style's own, or as many as the LM has."""
    head_width: int | None = None
    """None: the style's own, or the LM's width over the heads."""
    query_key_norm: bool = False
    """RMSNorm on queries and keys (``idefics`` style only)."""
    feed_forward_multiplier: int = 4
    gate: Gate = Gate.tanh
    initial_gate: float = 0.0
    """Both gates at the start; tanh(0) = 0 leaves the LM as it was."""


@dataclass
class FreezeRowConfig:
    """One row of the freeze table: shell-style pattern of parameter names, the last matching row decides."""

    pattern: str = MISSING
    trainable: bool = MISSING


@dataclass
class ModelConfig:
    """The Flamingo."""

    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    vision_encoder: VisionEncoderConfig = field(default_factory=VisionEncoderConfig)
    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    gated_cross_attention: GatedCrossAttentionConfig = field(default_factory=GatedCrossAttentionConfig)
    style: Style = Style.paper
    """Of the resampler and the gated blocks."""
    media_rule: MediaRule = MediaRule.last
    freeze_preset: FreezePreset = FreezePreset.paper
    """The first rows of the freeze table."""
    freeze: list[FreezeRowConfig] = field(default_factory=list)
    """More rows, behind the preset's."""
    extra_tokens: list[str] = field(default_factory=list)
    """Special tokens beside ``<image>`` and ``<EOC>``, each with rows of its own that train, such as Otter's
    ``<answer>``."""
