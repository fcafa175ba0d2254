import io
import random

import av
import numpy
import pytest

from flamingo_ds.config import DatasetConfig
from flamingo_ds.config.schema import SampleFormat
from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.data.buffers import PixelBuffers
from flamingo_ds.data.collate import collate
from flamingo_ds.data.decoder import Decoder
from flamingo_ds.data.documents import reader_of
from flamingo_ds.data.pictures import PictureRules
from flamingo_ds.data.shards import RawSample
from flamingo_ds.data.videos import Clip, FrameRules

from .conftest import TRANSFORM, rules_of
from .making import picture


def video(seconds: float, rate: int = 4, suffix: str = "mp4", size: int = 32, first: int = 0) -> bytes:
    """A film whose red channel says at which second a frame stands: 20 a second."""
    file = io.BytesIO()
    with av.open(file, "w", format=suffix) as container:
        stream = container.add_stream({"mp4": "mpeg4", "webm": "libvpx"}[suffix], rate=rate)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(round(seconds * rate)):
            pixels = numpy.zeros((size, size, 3), numpy.uint8)
            pixels[..., 0] = first + 20 * (number // rate)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def seconds_of(frames):
    return [round(float(frame[..., 0].mean()) / 20) for frame in frames]


def decode(content, rules=FrameRules(8, 1.0), seed=0):  # noqa: B008
    return Clip(content, rules).decode(None, random.Random(seed))


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_eight_frames_at_one_a_second(suffix):
    frames = decode(video(8, suffix=suffix))
    assert seconds_of(frames) == list(range(8))
    assert {frame.shape for frame in frames} == {(32, 32, 3)}


def test_a_shorter_clip_has_fewer_frames():
    assert seconds_of(decode(video(3))) == [0, 1, 2]


def test_another_rate():
    assert seconds_of(decode(video(8), FrameRules(4, 0.5))) == [0, 2, 4, 6]
    assert seconds_of(decode(video(2), FrameRules(8, 4.0))) == [0] * 4 + [1] * 4


def test_a_longer_film_is_entered_at_random():
    film = video(12)
    starts = {seconds_of(decode(film, FrameRules(4, 1.0), seed))[0] for seed in range(40)}
    assert min(starts) <= 1
    assert max(starts) >= 7
    for seed in range(10):
        frames = seconds_of(decode(film, FrameRules(4, 1.0), seed))
        assert [second - frames[0] for second in frames] == [0, 1, 2, 3]
        assert frames == seconds_of(decode(film, FrameRules(4, 1.0), seed))


def read(members, **switches):
    config = DatasetConfig(SampleFormat.video_text, "", batch_size=1, **switches)
    return Decoder(reader_of(config), rules_of(max_images=1), TRANSFORM)(RawSample("a.tar", "1", members))


def test_a_video_and_its_text_become_one_masked_batch():
    long, short = (read({"mp4": video(seconds), "txt": b"a cat"}) for seconds in (8, 3))
    assert len(long.media) == 1
    batch = collate([long, short], 0, TRANSFORM, PixelBuffers())
    assert batch.pixel_values.shape == (2, 1, 8, 3, 2, 2)
    assert batch.num_frames.tolist() == [[8], [3]]
    assert not batch.pixel_values[1, 0, 3:].any()
    assert batch.num_images.tolist() == [1, 1]


def test_a_folder_of_frames_in_the_order_of_their_numbers():
    frames = {f"{number}.png": picture(number) for number in (10, 9, 2, 1)}
    sequence = read({**frames, "json": b'{"caption": "a cat"}'})
    assert sequence.media[0][:, 0, 0, 0].tolist() == [1, 2, 9, 10]
    assert read({**frames, "txt": b"a"}, frames=2).media[0].shape[0] == 2


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"mp4": b"no video", "txt": b"a"}, "unreadable_video"),
        ({"mp4": b"", "txt": b"a"}, "unreadable_video"),
        ({"mp4": picture(1), "txt": b"a"}, None),  # a still picture is a film of one frame
        ({"txt": b"a"}, "missing_pair"),
        ({"mp4": video(2)}, "missing_pair"),
        ({"mp4": video(2), "txt": b" "}, "no_text"),
        ({"0.png": picture(1), "1.png": b"", "txt": b"a"}, "unreadable_image"),
    ],
)
def test_a_video_that_cannot_be_used(members, kind):
    outcome = read(members)
    assert (outcome.kind if isinstance(outcome, BadSample) else None) == kind


def test_rules_on_sides_hold_for_videos():
    with pytest.raises(BadSample, match="too_small: 32 x 32"):
        Clip(video(1), FrameRules()).check(PictureRules(min_side=64))


@pytest.mark.parametrize("seed", range(30))
def test_no_damage_to_a_video_ends_the_run(seed):
    rng = random.Random(seed)
    content = bytearray(video(2))
    for _ in range(20):
        content[rng.randrange(len(content))] = rng.randrange(256)
    outcome = read({"mp4": bytes(content[: rng.randrange(len(content))]), "txt": b"a"})
    assert not isinstance(outcome, BadSample) or outcome.kind in ("unreadable_video", "too_large_image")


def test_a_film_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr("flamingo_ds.data.videos.MOST_FRAMES_DECODED", 10)
    assert read({"mp4": video(8), "txt": b"a"}).kind == "unreadable_video"
