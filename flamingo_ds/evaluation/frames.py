"""Pictures and videos of a task, decoded only when a prompt is read (paper, A.3: 30 frames at 3 a second)."""

import random
from pathlib import Path

from PIL import Image

from ..data.bad_samples import BadSample
from ..data.pictures import Picture
from ..data.videos import Clip, FrameRules
from .task import is_video

# Temporal encodings learned from 8 frames are interpolated to as many.
AT_INFERENCE = FrameRules(count=30, per_second=3.0)


def load_frames(path: Path, rules: FrameRules = AT_INFERENCE) -> list[Image.Image]:
    """The frames of a picture (one), a video file or a folder of frames, upright and in RGB.

    A video file longer than the rules want gives its middle. A folder says nothing of its rate: its files, in the
    order of their names, are taken evenly spaced where there are too many.

    Raises:
        BadSample: not there, or not to be read.
    """
    if path.is_dir():
        return _frames_of_folder(path, rules.count)
    content = _bytes(path)
    if is_video(path):
        return [Image.fromarray(frame) for frame in Clip(content, rules).decode(None, _Middle())]
    return [Image.fromarray(Picture(content).decode())]


def _frames_of_folder(folder: Path, count: int) -> list[Image.Image]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise BadSample("unreadable_video", f"{folder} holds no frame")
    taken = min(count, len(files))
    chosen = [files[(2 * place + 1) * len(files) // (2 * taken)] for place in range(taken)]
    return [Image.fromarray(Picture(_bytes(path)).decode()) for path in chosen]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSample("no_image", f"{path}: {error.strerror}") from error


class _Middle(random.Random):
    """Where training enters a long video at random, evaluation takes the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2
