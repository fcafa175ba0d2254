"""Small pictures within an HTML page."""

import base64
import io
import random
from functools import lru_cache
from html import escape
from pathlib import Path

from PIL import Image

from ...data.bad_samples import BadSample
from ...data.pictures import Picture
from ...data.videos import Clip, FrameRules
from ..task import is_video

SIDE = 112


@lru_cache(maxsize=4096)
def thumbnail(path: str) -> str:
    """An ``<img>`` that holds its picture, of a video one frame; a box with its name where it cannot be read."""
    name = escape(Path(path).name)
    try:
        picture = _picture(Path(path))
    except (BadSample, OSError, IndexError):
        return f'<span class="gone" title="{escape(path)}">{name}</span>'
    picture.thumbnail((SIDE, SIDE))
    if max(picture.size) < SIDE / 2:  # a digit of 8 x 8 pixels would be a dot
        factor = SIDE // max(picture.size) // 2 or 1
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "jpeg", quality=82)
    content = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{content}" alt="{name}" title="{escape(path)}">'


def _picture(path: Path) -> Image.Image:
    if path.is_dir():
        path = sorted(file for file in path.iterdir() if file.is_file())[0]
    elif is_video(path):
        rules = FrameRules(count=1, per_second=1.0)
        return Image.fromarray(Clip(path.read_bytes(), rules).decode(SIDE, random.Random(0))[0])
    return Image.fromarray(Picture(path.read_bytes()).decode(SIDE))
