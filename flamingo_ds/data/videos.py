"""Video files and folders of frames: which frames are taken, and their pixels (paper, A.3: 8 at 1 a second)."""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy
from PIL import Image

from .bad_samples import BadSample
from .pictures import Picture, PictureRules

VIDEO_SUFFIXES = ("mp4", "webm", "mkv", "mov", "avi")
# A file that decodes to more before it is done is a bomb or a film; neither is a clip.
MOST_FRAMES_DECODED = 20_000


@dataclass(frozen=True)
class FrameRules:
    """Which frames of a video are taken.

    Attributes:
        count: at most so many.
        per_second: at this rate.
    """

    count: int = 8
    per_second: float = 1.0


@dataclass(frozen=True)
class Clip:
    """A video: an encoded file, or its frames as pictures taken at the wanted rate already.

    Attributes:
        source: of one or the other kind.
        rules: which frames to take.
    """

    source: bytes | tuple[Picture, ...]
    rules: FrameRules

    def check(self, rules: PictureRules) -> None:
        """Judge it by its header.

        Raises:
            BadSample: it cannot or may not be used.
        """
        if isinstance(self.source, tuple):
            for picture in self.source:
                picture.check(rules)
            return
        with _opened(self.source) as container:
            stream = container.streams.video[0]
            size = (stream.codec_context.width, stream.codec_context.height)
        if size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or size[0] * size[1]):
            raise BadSample("too_large_image", f"a video of {size[0]} x {size[1]} pixels")
        rules.check(size)

    def decode(self, target: int | None, rng: random.Random) -> list[numpy.ndarray]:
        """Frames (H, W, 3) uint8, fewer than ``count`` of a shorter clip; a longer one is entered at random.

        Raises:
            BadSample: damaged, or without a frame.
        """
        if isinstance(self.source, tuple):
            first = rng.randrange(max(1, len(self.source) - self.rules.count + 1))
            return [picture.decode(target) for picture in self.source[first : first + self.rules.count]]
        try:
            frames = self._decode_file(self.source, rng)
        except BadSample:
            raise
        except Exception as error:  # of FFmpeg and of its wrapper, which trusts what a header says
            raise BadSample("unreadable_video", f"{type(error).__name__}: {error}") from error
        if not frames:
            raise BadSample("unreadable_video", "not a single frame")
        return frames

    def _decode_file(self, content: bytes, rng: random.Random) -> list[numpy.ndarray]:
        interval = 1 / self.rules.per_second
        with _opened(content) as container:
            stream = container.streams.video[0]
            spare = _seconds(container, stream) - self.rules.count * interval
            start = rng.uniform(0, spare) if spare > 0 else 0.0
            if start > 0:
                container.seek(int(start * av.time_base))  # to the key frame before it
            frames: list[numpy.ndarray] = []
            for number, (time, frame) in enumerate(_timed_frames(container, stream)):
                if number == MOST_FRAMES_DECODED:
                    raise BadSample("unreadable_video", f"not done after {number:,} frames")
                if time + 1e-6 >= start + len(frames) * interval:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == self.rules.count:
                    break
        return frames


def _opened(content: bytes) -> "av.container.InputContainer":
    try:
        container = av.open(io.BytesIO(content), mode="r", metadata_errors="ignore")
    except (av.FFmpegError, ValueError) as error:
        raise BadSample("unreadable_video", f"{type(error).__name__}: {error}") from error
    if not container.streams.video or container.streams.video[0].codec_context is None:
        container.close()
        raise BadSample("unreadable_video", "a file without a video stream that can be decoded")
    container.streams.video[0].thread_type = "NONE"  # one core a worker
    return container


def _seconds(container: "av.container.InputContainer", stream: "av.video.stream.VideoStream") -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / av.time_base


def _timed_frames(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
) -> Iterator[tuple[float, "av.VideoFrame"]]:
    """Frames with their seconds since the beginning."""
    began = float((stream.start_time or 0) * (stream.time_base or 0))
    for frame in container.decode(stream):
        yield (frame.time or 0.0) - began, frame
