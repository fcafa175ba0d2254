"""Which image or video belongs to which place of which prompt."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers.image_utils import load_image

IMAGE_TOKEN = "<image>"
VIDEO_PLACE = "<video>"

Frames = list[Image.Image]


def media_of_prompts(texts: Sequence[str], images: Any, videos: Any) -> list[list[Frames]]:
    """The frames of every ``<image>`` and ``<video>`` of every text, in their order; an image is one frame.

    Args:
        texts: the prompts.
        images: one image, a flat list dealt out in the order of their places, or a list for each text.
        videos: the same of videos; a video is a list of images or an array of four axes.

    Raises:
        ValueError: numbers that do not match, or something that is neither image nor video.
    """
    places = [re.findall(f"{IMAGE_TOKEN}|{VIDEO_PLACE}", text) for text in texts]
    dealt = {}
    for place, given, is_one, word in (
        (IMAGE_TOKEN, images, is_image, "images"),
        (VIDEO_PLACE, videos, _is_video, "videos"),
    ):
        rows = _deal(given, [row.count(place) for row in places], is_one, word, place)
        dealt[place] = [iter(row) for row in rows]
    return [[frames_of(next(dealt[place][row])) for place in kinds] for row, kinds in enumerate(places)]


def is_image(value: Any) -> bool:
    """A PIL image, a path or address of one, or an array of two or three axes."""
    return isinstance(value, Image.Image | str) or len(getattr(value, "shape", ())) in (2, 3)


def frames_of(value: Any) -> Frames:
    """An image, or the frames of a video, as RGB images.

    Raises:
        ValueError: an array that is no picture.
    """
    if isinstance(value, Image.Image | str):
        return [load_image(value).convert("RGB")]
    if isinstance(value, list | tuple):
        return [frame for part in value for frame in frames_of(part)]
    array = torch.as_tensor(value)
    if array.ndim == 4:
        return [frame for part in array for frame in frames_of(part)]
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
        array = array.movedim(0, -1)
    if array.dtype != torch.uint8 or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
        raise ValueError(
            f"an image of shape {tuple(value.shape)} and type {array.dtype}; expected (H, W, C) or (C, H, W) of uint8"
        )
    return [Image.fromarray(array.squeeze(-1).cpu().numpy()).convert("RGB")]


def _is_video(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) > 0 and all(is_image(part) for part in value)
    return len(getattr(value, "shape", ())) == 4


def _deal(given: Any, counts: list[int], is_one: Any, word: str, place: str) -> list[list[Any]]:
    """A list of what is given for each text, as many as it names."""
    if given is None or (isinstance(given, list | tuple) and not given):
        rows: list[list[Any]] = [[] for _ in counts]
    elif is_one(given):
        rows = [[given]]
    elif not isinstance(given, list | tuple):
        raise ValueError(f"{word} is a {type(given).__name__}; expected pictures, or lists of them")
    elif all(is_one(item) for item in given):
        rest = list(given)
        rows = [[rest.pop(0) for _ in range(min(count, len(rest)))] for count in counts]
        if rest:
            raise ValueError(f"{len(given)} {word} for texts that name {counts}")
    else:
        rows = [_row(row, is_one, word) for row in given]
    found = [len(row) for row in rows]
    if found != counts:
        raise ValueError(f"the texts name {counts} {word} with {place} but {found} were given")
    return rows


def _row(row: Any, is_one: Any, word: str) -> list[Any]:
    if row is None:
        return []
    items = [row] if is_one(row) else row
    if not isinstance(items, list | tuple) or not all(is_one(item) for item in items):
        kinds = (
            sorted({type(item).__name__ for item in items}) if isinstance(items, list | tuple) else type(row).__name__
        )
        raise ValueError(f"{word} holds {kinds}; expected pictures, or a list of them for each text")
    return list(items)
