"""What it is trained on and probed with: the keys of a recipe's ``data`` and ``probe`` sections."""

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING


class SampleFormat(StrEnum):
    """What a shard holds."""

    interleaved = "interleaved"
    """Pages of texts and images: our plain layout, OBELICS' or MMC4's."""
    image_text = "image_text"
    """An image and its caption, as img2dataset writes them."""
    video_text = "video_text"
    """A video, or a folder of frames, and its caption."""


class MixtureKind(StrEnum):
    """How the datasets share the optimizer steps."""

    accumulated = "accumulated"
    """Each step takes a batch of every dataset and sums up the gradients (paper, section 2.4)."""
    in_turn = "in_turn"
    """Each step takes a batch of one dataset, in the recipe's order; an ablation of the paper, 62.9 against 70.7."""


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
