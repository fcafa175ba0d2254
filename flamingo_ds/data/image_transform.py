"""From decoded pixels to what the vision encoder was trained on: size, fit, mean and deviation come from its processor.

torchvision resizes uint8 with Pillow's own filters, vectorised; the result is within 2/255 of Pillow's (docs/data.md).
"""

import random
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from ..config import ConfigError
from ..config.schema import Fit

FILTERS = {2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}
KEY = "model.vision_encoder"
# Rounding to uint8 once and one row of pixels to the left or right apart, a transform is the processor's or it is not.
SAME = 3 / 255


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a picture.

    Attributes:
        flip: share of pictures that are mirrored left to right.
        colour_jitter: brightness, contrast and saturation are each multiplied by a factor within 1 +- this.
    """

    flip: float = 0.0
    colour_jitter: float = 0.0

    def draw(self, rng: random.Random) -> tuple[bool, list[float]]:
        """Whether to mirror, and the three factors (none without jitter); the same for all frames of a video."""
        mirrored = rng.random() < self.flip
        if not self.colour_jitter:
            return mirrored, []
        return mirrored, [rng.uniform(1 - self.colour_jitter, 1 + self.colour_jitter) for _ in range(3)]


@dataclass(frozen=True)
class ImageTransform:
    """Resize, make square, normalise.

    Attributes:
        height, width: of the result.
        resized: pixels that the shorter side is resized to before the middle is cut out (``crop`` alone).
        fit: how a picture becomes square.
        resample: Pillow's number of the filter.
        mean, std: of each channel, of values from 0 to 1.
    """

    height: int
    width: int
    resized: int
    fit: Fit
    resample: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, processor: Any, fit: Fit | None = None) -> "ImageTransform":
        """The transform of a transformers image processor.

        Args:
            processor: of the vision encoder.
            fit: another way to make pictures square; None: the processor's own.

        Raises:
            ConfigError: a processor that does something else; found by trying it on a picture.
        """
        crops = bool(getattr(processor, "do_center_crop", False))
        size = _sizes(processor.size)
        height, width = _sizes(processor.crop_size)[:2] if crops else size[:2]
        transform = cls(
            height=height,
            width=width,
            resized=min(size[:2]),
            fit=Fit.crop if crops else Fit.squash,
            resample=int(getattr(processor, "resample", 3)),
            mean=tuple(processor.image_mean),
            std=tuple(processor.image_std),
        )
        transform._require_same(processor)
        if fit is None or fit is transform.fit:
            return transform
        return replace(transform, fit=fit, resized=min(height, width))

    def target(self) -> int:
        """Pixels of the shorter side after resizing, which decoding must not fall below."""
        return self.resized if self.fit is Fit.crop else min(self.height, self.width)

    def __call__(self, pixels: numpy.ndarray) -> torch.Tensor:
        """(H, W, 3) uint8 to (3, height, width) uint8."""
        height, width = pixels.shape[:2]
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        if self.fit is Fit.squash:
            return self._resize(image, self.height, self.width)
        if self.fit is Fit.crop:
            short = min(height, width)
            # transformers rounds down, as Pillow's thumbnails do
            image = self._resize(image, self.resized * height // short, self.resized * width // short)
            top, left = (image.shape[1] - self.height) // 2, (image.shape[2] - self.width) // 2
            return image[:, top : top + self.height, left : left + self.width]
        scale = min(self.height / height, self.width / width)
        inner = (max(1, round(height * scale)), max(1, round(width * scale)))
        colour = torch.tensor(self.mean).mul(255).round().to(torch.uint8)
        canvas = colour.reshape(3, 1, 1).repeat(1, self.height, self.width)
        top, left = (self.height - inner[0]) // 2, (self.width - inner[1]) // 2
        canvas[:, top : top + inner[0], left : left + inner[1]] = self._resize(image, *inner)
        return canvas

    def augment(self, image: torch.Tensor, mirrored: bool, factors: list[float]) -> torch.Tensor:
        """As :meth:`Augmentation.draw` wants it: (3, H, W) uint8 to the same."""
        if mirrored:
            image = functional.horizontal_flip(image)
        if factors:
            brightness, contrast, saturation = factors
            image = functional.adjust_brightness(image, brightness)
            image = functional.adjust_contrast(image, contrast)
            image = functional.adjust_saturation(image, saturation)
        return image

    def normalise(self, image: torch.Tensor, out: torch.Tensor) -> None:
        """(..., 3, H, W) uint8 to the encoder's float32, written to ``out``."""
        scale, shift = self._scale_and_shift
        out.copy_(image).mul_(scale).add_(shift)

    @cached_property
    def _scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (self.mean, self.std))
        return 1 / (255 * std), -mean / std

    def _resize(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        if self.resample in FILTERS:
            return functional.resize(image, [height, width], interpolation=FILTERS[self.resample], antialias=True)
        resized = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
            (width, height), Image.Resampling(self.resample)
        )
        return torch.from_numpy(numpy.array(resized)).permute(2, 0, 1)

    def _require_same(self, processor: Any) -> None:
        """Try a smooth picture of an odd shape: one row cut off elsewhere, another mean or another size all show."""
        rows, columns = numpy.mgrid[0:187, 0:251]
        channels = [rows, columns, (rows + columns) // 2]
        pixels = numpy.stack([channel % 256 for channel in channels], axis=-1).astype(numpy.uint8)
        wanted = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
        ours = torch.empty(3, self.height, self.width)
        self.normalise(self(pixels), ours)
        if (
            wanted.shape != ours.shape
            or float(((wanted - ours).abs() * torch.tensor(self.std).reshape(3, 1, 1)).max()) > SAME
        ):
            raise ConfigError(
                f"{KEY}.source",
                type(processor).__name__,
                "an image processor that resizes, perhaps cuts the middle out, and normalises; this one does more",
            )


def _sizes(size: Any) -> tuple[int, int]:
    """Height and width of a processor's size; one of its shorter side counts for both."""
    found = dict(size) if not isinstance(size, int) else {"shortest_edge": size}
    if side := found.get("shortest_edge"):
        return int(side), int(side)
    return int(found["height"]), int(found["width"])
