"""A row of a table to the members of a sample."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flamingo_ds.config.schema import SampleFormat
from flamingo_ds.data.documents import IMAGE_SUFFIXES
from flamingo_ds.data.videos import VIDEO_SUFFIXES


class BadRow(Exception):
    """A row without a usable sample; its text says why."""


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns."""

    caption: str
    image: str
    video: str
    texts: str
    images: str

    def needed(self, kind: SampleFormat) -> list[str]:
        """Those of a format."""
        if kind is SampleFormat.interleaved:
            return [self.texts, self.images]
        return [self.image if kind is SampleFormat.image_text else self.video, self.caption]


def sample_of(kind: SampleFormat, row: dict[str, Any], columns: Columns, files: Path) -> dict[str, bytes]:
    """Members by suffix.

    Raises:
        BadRow: a file that is not there or outside the folder, no text, lists that do not fit.
    """
    if kind is SampleFormat.interleaved:
        return _page(_list(row, columns.texts), _list(row, columns.images), files)
    caption = row.get(columns.caption)
    if not isinstance(caption, str) or not caption.strip():
        raise BadRow("no caption")
    members = _image(row.get(columns.image), files) if kind is SampleFormat.image_text else _video(row, columns, files)
    return {**members, "txt": caption.encode()}


def _page(texts: Sequence[Any], images: Sequence[Any], files: Path) -> dict[str, bytes]:
    if len(texts) != len(images):
        raise BadRow(f"{len(texts)} texts and {len(images)} images; expected one list as long as the other")
    members: dict[str, bytes] = {}
    numbers: list[int | None] = []
    for text, image in zip(texts, images, strict=True):
        if (text is None) == (image is None):
            raise BadRow("a place with both or neither of a text and an image")
        numbers.append(None if image is None else len(members))
        if image is not None:
            ((suffix, content),) = _image(image, files).items()
            members[f"{len(members)}.{suffix}"] = content
    page = json.dumps({"texts": list(texts), "images": numbers}, ensure_ascii=False)
    return {**members, "json": page.encode()}


def _image(name: Any, files: Path) -> dict[str, bytes]:
    path = _path(name, files)
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in IMAGE_SUFFIXES:
        raise BadRow(f"{name}: expected a file that ends in {', '.join(IMAGE_SUFFIXES)}")
    return {suffix: _read(path, name)}


def _video(row: dict[str, Any], columns: Columns, files: Path) -> dict[str, bytes]:
    name = row.get(columns.video)
    path = _path(name, files)
    if path.is_dir():
        frames = [frame for frame in path.iterdir() if frame.suffix.lower().lstrip(".") in IMAGE_SUFFIXES]
        frames.sort(key=_by_numbers)
        if not frames:
            raise BadRow(f"{name}: a folder without frames")
        return {f"{number:04d}{frame.suffix.lower()}": _read(frame, name) for number, frame in enumerate(frames)}
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in VIDEO_SUFFIXES:
        raise BadRow(f"{name}: expected a folder of frames, or a file that ends in {', '.join(VIDEO_SUFFIXES)}")
    return {suffix: _read(path, name)}


def _by_numbers(frame: Path) -> list[str | int]:
    """frame-2 before frame-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", frame.name)]


def _path(name: Any, files: Path) -> Path:
    if not isinstance(name, str) or not name:
        raise BadRow("no file is named")
    path = (files / name).resolve()
    # A table from elsewhere must not pack files that its writer never had.
    if not path.is_relative_to(files.resolve()):
        raise BadRow(f"{name}: not within {files}")
    return path


def _read(path: Path, name: Any) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRow(f"{name}: {error.strerror}") from error


def _list(row: dict[str, Any], column: str) -> list[Any]:
    value = row.get(column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRow(f"{column} is no JSON list") from error
    if not isinstance(value, list) or not all(item is None or isinstance(item, str) for item in value):
        raise BadRow(f"{column} is no list of texts and nulls")
    return value
