"""A raw sample to a training sequence with its pixels: all the work on one sample, in whatever process."""

import random
from dataclasses import dataclass, field

import numpy
import torch

from .bad_samples import BadSample
from .documents import Document, Reader
from .image_transform import Augmentation, ImageTransform
from .pictures import Picture
from .sequence import SequenceRules, TokenSequence
from .shards import RawSample
from .videos import Clip


@dataclass(frozen=True)
class Decoder:
    """Reader, sequence rules and image transform of one dataset. It depends on the sample alone.

    Attributes:
        read: a sample to a document.
        rules: a document to a sequence.
        transform: of its pictures.
        augmentation: of its pictures.
        keep_without_images: whether a page may lose its last picture.
    """

    read: Reader
    rules: SequenceRules
    transform: ImageTransform
    augmentation: Augmentation = field(default_factory=Augmentation)
    keep_without_images: bool = False

    def __call__(self, sample: RawSample) -> TokenSequence | BadSample:
        """The sequence, or why there is none."""
        if sample.bad is not None:
            return sample.bad
        try:
            return self._decode(self.read(sample), sample.seed)
        except BadSample as bad:
            return bad

    def _decode(self, document: Document, seed: str) -> TokenSequence:
        while True:
            sequence = self.rules(document, random.Random(f"sequence {seed}"))
            rng = random.Random(f"pixels {seed}")
            pixels = []
            for media in sequence.media:
                try:
                    pixels.append(self._pixels(media, rng))
                except BadSample as bad:
                    # A page goes on without the picture; its windows and pairs are then others.
                    document = document.without(media, bad.kind)
                    if isinstance(media, Clip) or not (document.media() or self.keep_without_images):
                        raise
                    break
            else:
                sequence.media = pixels
                return sequence

    def _pixels(self, media: Picture | Clip, rng: random.Random) -> numpy.ndarray:
        """(F, H, W, 3) uint8."""
        drawn = self.augmentation.draw(rng)
        target = self.transform.target()
        decoded = [media.decode(target)] if isinstance(media, Picture) else media.decode(target, rng)
        frames = [self.transform.augment(self.transform(frame), *drawn) for frame in decoded]
        pixels = frames[0].unsqueeze(0) if len(frames) == 1 else torch.stack(frames)  # a picture is not copied
        return pixels.permute(0, 2, 3, 1).numpy()
