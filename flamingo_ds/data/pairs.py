"""Pairs: ``KEY.txt`` (or ``KEY.json`` with a ``caption``, as img2dataset writes) beside an image or a video.

The video is ``KEY.mp4`` (webm, ...) or its frames ``KEY.0000.jpg``, ``KEY.0001.jpg``, ... in the order of numbers.
"""

import re
from dataclasses import dataclass

from .bad_samples import BadSample
from .documents import IMAGE_SUFFIXES, Document, decode_json, decode_text, find_image, require_encodable
from .pictures import Picture, PictureRules
from .shards import RawSample
from .videos import VIDEO_SUFFIXES, Clip, FrameRules

CAPTION_KEYS = ("caption", "text")
FRAME = re.compile(rf"(\d+)\.(?:{'|'.join(IMAGE_SUFFIXES)})")


@dataclass(frozen=True)
class ImageTextReader:
    """``[picture, text]``.

    Attributes:
        rules: which pictures may be used.
    """

    rules: PictureRules

    def __call__(self, sample: RawSample) -> Document:
        """Read one sample.

        Raises:
            BadSample: one half is missing or cannot be used.
        """
        text = _caption(sample)
        picture = find_image(sample)
        if picture is None:
            raise BadSample("missing_pair", f"no image member {{{','.join(IMAGE_SUFFIXES)}}}")
        picture.check(self.rules)
        return Document([picture, text])


@dataclass(frozen=True)
class VideoTextReader:
    """``[clip, text]``.

    Attributes:
        rules: which frames' sizes may be used.
        frames, frames_per_second: what is taken of it.
    """

    rules: PictureRules
    frames: int
    frames_per_second: float

    def __call__(self, sample: RawSample) -> Document:
        """Read one sample.

        Raises:
            BadSample: one half is missing or cannot be used.
        """
        text = _caption(sample)
        clip = Clip(self._source(sample), FrameRules(self.frames, self.frames_per_second))
        clip.check(self.rules)
        return Document([clip, text])

    def _source(self, sample: RawSample) -> bytes | tuple[Picture, ...]:
        for suffix in VIDEO_SUFFIXES:
            if (content := sample.members.get(suffix)) is not None:
                return content
        numbered = [(match, suffix) for suffix in sample.members if (match := FRAME.fullmatch(suffix))]
        if not numbered:
            raise BadSample("missing_pair", f"no member {{{','.join(VIDEO_SUFFIXES)}}}, and no numbered frames")
        numbered.sort(key=lambda found: int(found[0][1]))
        return tuple(Picture(sample.members[suffix]) for _, suffix in numbered)


def _caption(sample: RawSample) -> str:
    if "txt" in sample.members or "json" not in sample.members:
        text = decode_text(sample.members.get("txt"), "txt or json")
    else:
        content = decode_json(sample.members["json"])
        text = next((content[key] for key in CAPTION_KEYS if isinstance(content.get(key), str)), "")
    if not text.strip():
        raise BadSample("no_text", "an empty caption")
    return require_encodable(text.strip())
