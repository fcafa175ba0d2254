"""Image files: judged by their header, decoded only when a sequence takes them.

JPEG is decoded by libjpeg-turbo (simplejpeg), the rest by Pillow. A picture whose sides are at least ``REDUCE`` times as
long as they will be is decoded at 1/2, 1/4 or 1/8 of its size, which leaves most of the inverse DCT out.
"""

import io
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy
import simplejpeg
from PIL import Image, ImageOps

from .bad_samples import BadSample

# By content, whatever the suffix says; PIL knows more, and would start Ghostscript for a picture from the web.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# What is decoded is at least this many times as large as wanted: closer, the coarser scaling would be seen (docs/data.md).
REDUCE = 2.0
EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class PictureRules:
    """Which pictures may be used.

    Attributes:
        min_side: of the shorter side, in pixels.
        max_aspect: of the longer side to the shorter; None: any.
    """

    min_side: int = 0
    max_aspect: float | None = None

    def check(self, size: tuple[int, int]) -> None:
        """Look at (width, height).

        Raises:
            BadSample: ``too_small`` or ``too_long_a_shape``.
        """
        short, long = sorted(size)
        if short < max(self.min_side, 1):
            raise BadSample("too_small", f"{size[0]} x {size[1]} pixels, a side below {self.min_side}")
        if self.max_aspect is not None and long > self.max_aspect * short:
            raise BadSample("too_long_a_shape", f"{size[0]} x {size[1]} pixels, an aspect above {self.max_aspect}")


@dataclass(frozen=True)
class Picture:
    """An encoded image.

    Attributes:
        content: of its file.
    """

    content: bytes

    @cached_property
    def header(self) -> Image.Image:
        """Opened, not decoded.

        Raises:
            BadSample: not an image, or one of more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
        """
        try:
            with warnings.catch_warnings():
                # PIL only warns of what is above its limit and below twice that; training has no use for it either.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                return Image.open(io.BytesIO(self.content), formats=IMAGE_FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise BadSample("too_large_image", str(error)) from error
        except Exception as error:  # PIL raises almost anything on hostile bytes, differently in each version
            raise BadSample("unreadable_image", f"{type(error).__name__}: {error}") from error

    def check(self, rules: PictureRules) -> None:
        """Judge it by its header.

        Raises:
            BadSample: it cannot or may not be used.
        """
        rules.check(self.header.size)

    def decode(self, target: int | None = None) -> numpy.ndarray:
        """The pixels: (H, W, 3) uint8, RGB, upright.

        Args:
            target: pixels that the shorter side will have; a JPEG far larger is decoded at a reduced scale.

        Raises:
            BadSample: damaged.
        """
        if self.header.format == "JPEG" and self.header.mode in ("RGB", "L"):
            return self._decode_jpeg(target)
        return self._decode_with_pillow()

    def _decode_jpeg(self, target: int | None) -> numpy.ndarray:
        width, height = self.header.size
        reduction = 1
        while target and reduction < 8 and min(width, height) >= 2 * reduction * REDUCE * target:
            reduction *= 2
        try:
            pixels = simplejpeg.decode_jpeg(
                self.content,
                min_height=-(-height // reduction) if reduction > 1 else 0,
                min_width=-(-width // reduction) if reduction > 1 else 0,
                min_factor=reduction,
                strict=False,
            )
        except ValueError:
            return self._decode_with_pillow()  # it is more forgiving, and its message tells truncation apart
        if not _whole_jpeg(self.content):
            return self._decode_with_pillow()
        orientation = self.header.getexif().get(EXIF_ORIENTATION, 1) if b"Exif" in self.content[:4096] else 1
        return pixels if orientation == 1 else _upright(pixels, orientation)

    def _decode_with_pillow(self) -> numpy.ndarray:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of palettes, EXIF, ... in pictures from the web
                return numpy.asarray(ImageOps.exif_transpose(self.header).convert("RGB"))
        except Exception as error:
            kind = "truncated_image" if "truncated" in str(error) else "unreadable_image"
            raise BadSample(kind, f"{type(error).__name__}: {error}") from error


def _whole_jpeg(content: bytes) -> bool:
    """Whether the end-of-image marker is there; some writers put a few bytes behind it."""
    return b"\xff\xd9" in content[-1024:]


def _upright(pixels: numpy.ndarray, orientation: int) -> numpy.ndarray:
    """Turned and mirrored as the EXIF tag asks (values 2 to 8)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return numpy.ascontiguousarray(pixels)
