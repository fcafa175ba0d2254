"""A sample's content in reading order: texts, pictures and videos that nobody has decoded yet."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..config import DatasetConfig
from ..config.schema import SampleFormat
from .bad_samples import BadSample
from .pictures import Picture, PictureRules
from .shards import RawSample
from .videos import Clip

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
Part = str | Picture | Clip


@dataclass
class Document:
    """What a sample says.

    Attributes:
        parts: in reading order.
        joint: between two texts without a picture between them.
        left_out: kinds of pictures that could not be used, one entry a picture.
    """

    parts: list[Part]
    joint: str = ""
    left_out: list[str] = field(default_factory=list)

    def without(self, part: Part, kind: str) -> "Document":
        """As if this very picture had not been there."""
        parts = [other for other in self.parts if other is not part]
        return Document(parts, self.joint, [*self.left_out, kind])

    def media(self) -> list[Picture | Clip]:
        """Pictures and videos."""
        return [part for part in self.parts if not isinstance(part, str)]

    def require_text(self) -> None:
        """Complain of a document that says nothing.

        Raises:
            BadSample: ``no_text``.
        """
        if not any(isinstance(part, str) and part.strip() for part in self.parts):
            raise BadSample("no_text", "no text")


Reader = Callable[[RawSample], Document]


def reader_of(config: DatasetConfig) -> Reader:
    """The reader of a dataset's format; it raises :class:`BadSample` and nothing else."""
    from .interleaved import PageReader  # they import what stands above
    from .pairs import ImageTextReader, VideoTextReader

    rules = PictureRules(config.min_image_side, config.max_image_aspect)
    if config.format is SampleFormat.image_text:
        return ImageTextReader(rules)
    if config.format is SampleFormat.video_text:
        return VideoTextReader(rules, config.frames, config.frames_per_second)
    return PageReader(rules, config.min_similarity, config.keep_pages_without_images)


def decode_text(content: bytes | None, what: str) -> str:
    """UTF-8.

    Raises:
        BadSample: missing or undecodable.
    """
    if content is None:
        raise BadSample("missing_pair", f"no {what} member")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSample("undecodable_text", str(error)) from error


def decode_json(content: bytes | None) -> dict[str, Any]:
    """An object.

    Raises:
        BadSample: missing, undecodable or something else.
    """
    try:
        value = json.loads(decode_text(content, "json"))
    except (ValueError, RecursionError) as error:
        raise BadSample("broken_json", f"{type(error).__name__}: {error}") from error
    if not isinstance(value, dict):
        raise BadSample("broken_json", f"a {type(value).__name__}, not an object")
    return value


def require_encodable(text: str) -> str:
    """The text itself.

    Raises:
        BadSample: JSON can write half a surrogate pair, and no tokenizer takes it.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadSample("undecodable_text", str(error)) from error
    return text


def find_image(sample: RawSample, prefix: str = "") -> Picture | None:
    """Member ``PREFIX.jpg`` (png, webp, ...), if it is there."""
    for suffix in IMAGE_SUFFIXES:
        if (content := sample.members.get(f"{prefix}.{suffix}" if prefix else suffix)) is not None:
            return Picture(content)
    return None
