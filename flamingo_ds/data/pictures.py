"""Image files: judged by their header, decoded only when a sequence takes them.

JPEG is decoded by libjpeg-turbo (simplejpeg), the rest by Pillow. A picture that is at least twice ``REDUCE`` times as
large as it will be is decoded at 1/2, 1/4 or 1/8 of its size, which leaves most of the inverse DCT out.
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
# A reduced picture is at least this many times as large as wanted: closer, the coarser scaling shows (docs/data.md).
REDUCE = 2
EXIF_ORIENTATION = 0x0112
# By orientation, after 5 to 8 have swapped rows with columns.
MIRRORED_AXES = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
# libjpeg fills up what is missing and says nothing that simplejpeg would pass on.
START_OF_JPEG, END_OF_JPEG = b"\xff\xd8", b"\xff\xd9"


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
            raise BadSample(_kind_of(error), f"{type(error).__name__}: {error}") from error

    @cached_property
    def jpeg(self) -> tuple[int, int] | None:
        """Width and height of a JPEG in colour or grey, without Pillow, which takes ten times as long; None: else.

        Raises:
            BadSample: one of more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
        """
        if not self.content.startswith(START_OF_JPEG):
            return None
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(self.content, strict=False)
        except Exception:  # ValueError, or KeyError of a header that ends too early
            return None  # Pillow's message says more
        if space not in ("YCbCr", "Gray", "RGB"):
            return None
        if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
            raise BadSample("too_large_image", f"{width} x {height} pixels")
        return width, height

    def check(self, rules: PictureRules) -> None:
        """Judge it by its header.

        Raises:
            BadSample: it cannot or may not be used.
        """
        rules.check(self.jpeg or self.header.size)

    def decode(self, target: int | None = None) -> numpy.ndarray:
        """The pixels: (H, W, 3) uint8, RGB, upright.

        Args:
            target: pixels that the shorter side will have; a JPEG far larger is decoded at a reduced scale.

        Raises:
            BadSample: damaged.
        """
        if self.jpeg is not None:
            return self._decode_jpeg(self.jpeg, target)
        return self._decode_with_pillow()

    def _decode_jpeg(self, size: tuple[int, int], target: int | None) -> numpy.ndarray:
        if END_OF_JPEG not in self.content[-1024:]:  # some writers put a few bytes behind it
            raise BadSample("truncated_image", "a JPEG without its end")
        width, height = size
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
        except Exception:
            return self._decode_with_pillow()  # it reads more, and its message tells truncation apart
        orientation = self.header.getexif().get(EXIF_ORIENTATION, 1) if b"Exif" in self.content[:4096] else 1
        return pixels if orientation == 1 else upright(pixels, orientation)

    def _decode_with_pillow(self) -> numpy.ndarray:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of palettes, EXIF, ... in pictures from the web
                return numpy.array(ImageOps.exif_transpose(self.header).convert("RGB"))
        except Exception as error:
            raise BadSample(_kind_of(error), f"{type(error).__name__}: {error}") from error


def upright(pixels: numpy.ndarray, orientation: int) -> numpy.ndarray:
    """(H, W, C) turned and mirrored as the EXIF tag asks (values 2 to 8)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    return numpy.ascontiguousarray(numpy.flip(pixels, MIRRORED_AXES.get(orientation, ())))


def _kind_of(error: Exception) -> str:
    return "truncated_image" if "truncated" in str(error).lower() else "unreadable_image"
