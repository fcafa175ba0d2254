"""Every key of a recipe, with its type, its default and what it means.

A recipe is a YAML file with these keys; what it leaves out has the default below, ``MISSING`` must be given.
"""

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


class MixtureKind(StrEnum):
    """How the datasets share the optimizer steps."""

    accumulated = "accumulated"
    """Each step takes a batch of every dataset and sums up the gradients (paper, section 2.4)."""
    in_turn = "in_turn"
    """Each step takes a batch of one dataset, in the recipe's order; an ablation of the paper, 62.9 against 70.7."""


class FreezePreset(StrEnum):
    """Rows that the freeze table starts with; ``flamingo_ds/config/freeze_presets.py`` spells them out."""

    paper = "paper"
    fine_tuning = "fine_tuning"
    language_model_unfrozen = "language_model_unfrozen"
    everything = "everything"


class SampleFormat(StrEnum):
    """What a shard holds."""

    interleaved = "interleaved"
    """Pages of texts and images: our plain layout, OBELICS' or MMC4's."""
    image_text = "image_text"
    """An image and its caption, as img2dataset writes them."""
    video_text = "video_text"
    """A video, or a folder of frames, and its caption."""


class Fit(StrEnum):
    """How a picture that is not square becomes square."""

    crop = "crop"
    """Its shorter side is resized to the image size, the middle is cut out."""
    pad = "pad"
    """Padded with the encoder's mean colour, nothing is cut off (paper, appendix A.3)."""
    squash = "squash"
    """Resized without regard to its aspect."""


class Precision(StrEnum):
    """Of activations, gradients and frozen weights; what trains has fp32 masters in both."""

    bf16 = "bf16"
    fp32 = "fp32"


class ScheduleKind(StrEnum):
    """Of the learning rate after the warm-up."""

    constant = "constant"
    cosine = "cosine"


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


@dataclass
class DatasetConfig:
    """One dataset of the mixture. The defaults leave the data as it is; docs/data.md tells the paper's values."""

    format: SampleFormat = MISSING
    shards: str = MISSING
    """webdataset tars: paths, URLs or ``pipe:COMMAND``, with braces (``{000..127}``) or a glob; or a folder of tars."""
    batch_size: int = MISSING
    """Sequences of one optimizer step, over all ranks."""
    micro_batch_size: int | None = None
    """Sequences of one forward pass on one rank; None: its whole share of the step at once."""
    weight: float = 1.0
    """Lambda of the paper's equation 4: this dataset's share in the loss."""
    max_tokens: int = 256
    """L: longer sequences are cut."""
    max_images: int = 5
    """N: the images of a page beyond these are left out, with the text after them."""
    shuffle_buffer: int = 1000
    """Samples that are shuffled among themselves; shards are shuffled too."""
    random_window: bool = False
    """Of a page longer than L take a random window with an image in it, not the beginning (paper: true)."""
    p_next: float | None = None
    """Share of pages whose texts belong to the image after them, not before (paper: 0.5); None: as the model's
    ``media_rule`` says, so 0 or 1."""
    eoc_before_image: bool = True
    """``<EOC>`` before each image but one that begins the page."""
    eoc_at_end: bool = True
    """``<EOC>`` at the end of a page or caption."""
    keep_pages_without_images: bool = False
    """Learn from pages of text alone; else they are dropped."""
    min_image_side: int = 0
    """Pixels: images with a shorter side are not used (paper: 64)."""
    max_image_aspect: float | None = None
    """Images with a longer side above this many shorter ones are not used (paper: 3)."""
    min_similarity: float | None = None
    """MMC4: images whose similarity to their sentence is lower are not used (OpenFlamingo: 0.24)."""
    leading_space: float = 0.0
    """Share of captions that get a space before them (paper: 0.5)."""
    pack: bool = False
    """Put several captions into one sequence, each with its image, up to L tokens and N images."""
    flip: float = 0.0
    """Share of images that are mirrored left to right. Not where a text says left, or holds letters to read."""
    colour_jitter: float = 0.0
    """Brightness, contrast and saturation are each multiplied by a random factor within 1 +- this."""
    frames: int = 8
    """Frames of a video; shorter ones are masked."""
    frames_per_second: float = 1.0
    """At which they are taken."""


@dataclass
class DataConfig:
    """What to train on."""

    datasets: dict[str, DatasetConfig] = MISSING
    mixture: MixtureKind = MixtureKind.accumulated
    max_bad_share: float = 0.1
    """Stop when more than this share of a dataset's samples is unusable."""
    workers: int = 0
    """Processes a rank that decode; 0: the training process itself. The samples and their order stay the same."""
    skip: list[list[int]] = field(default_factory=list)
    """Ranges [FIRST, LAST] of data steps that are passed over, as after a loss spike; ``metrics.jsonl`` counts them as
    ``data_step``, which is ``step`` until something was skipped."""
    retries: int = 4
    """How often a shard that cannot be read is opened again, behind the samples that it gave."""
    retry_wait_s: float = 1.0
    """Before the first of these; each later one waits twice as long."""
    stall_s: float = 60.0
    """A URL or pipe that gives nothing for so many seconds has stalled."""


@dataclass
class ProbeConfig:
    """What is measured on validation data while training goes on; docs/probes.md tells how to read it."""

    every: int = 0
    """Steps between probes; 0: never."""
    datasets: dict[str, DatasetConfig] = field(default_factory=dict)
    """Validation data by name, described as ``data.datasets`` are, but for ``weight`` and ``pack``."""
    batches: int = 1
    """A probe measures so many times ``batch_size`` sequences of each dataset; drawn once by ``seed``, they are the
    same in every probe and on any number of ranks."""
    shots: list[int] = field(default_factory=list)
    """Also measure the loss of a caption behind so many other pairs, for each of these numbers."""


@dataclass
class OptimizerConfig:
    """AdamW as in the paper (appendix B.1.2)."""

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.1
    """On the gated blocks' matrices; the resampler, gates, norms and new tokens have none."""
    max_grad_norm: float = 1.0


@dataclass
class ScheduleConfig:
    """Learning rate over steps: linear from 0 in the warm-up, then constant or a cosine to 0 at ``max_steps``."""

    kind: ScheduleKind = ScheduleKind.constant
    warmup_steps: int = 5000


@dataclass
class TrainConfig:
    """The loop."""

    max_steps: int = MISSING
    precision: Precision = Precision.bf16
    save_every: int = 1000
    """Steps between checkpoints; there is always one at the end."""
    save_in_background: bool = True
    """Write checkpoints beside training, which stands still only while their content is copied to CPU memory."""
    keep_last: int | None = None
    """How many checkpoints to keep, the newest; None: all."""
    keep_every: int | None = None
    """Beside the last, keep those whose step is a multiple of this."""
    log_every: int = 1
    """Steps between printed lines where there is no terminal for a progress bar."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass
class ParallelConfig:
    """How the model is laid out over ranks; ``tools/plan.py`` compares the choices for a cluster."""

    pipeline_stages: int = 1
    """Stages of the LM stack, each on ranks of its own; 1 for none. The other ranks are replicas: with 2 stages on 8
    GPUs there are 4. What trains is sharded over replicas as in ZeRO stage 1."""
    shard_frozen: bool = False
    """With stages: shard each stage's frozen weights over its replicas, as ZeRO stage 3 would."""
    reshard_after_forward: bool = True
    """With ``shard_frozen``: drop gathered weights behind the forward pass and gather them again for the backward one;
    false gathers once a micro-batch and keeps a stage's weights whole in between."""
    activation_checkpointing: str = "off"
    """off; block: recompute every block of LM, gated layers and resampler; an integer n: every n-th of them."""
    watchdog_s: float = 300.0
    """After so many seconds without progress each rank says where it and the others are; 0: never."""
    timeout_s: float = 1800.0
    """A collective that waits so many seconds for another rank ends the run and names who is missing."""


@dataclass
class RunConfig:
    """A whole recipe."""

    run_dir: str = MISSING
    """Folder of this run; ``--resume`` looks here."""
    seed: int = 0
    """Of initial weights and data order."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
