import base64
import io
import re

import av
import numpy
from PIL import Image

from flamingo_ds.evaluation.report.thumbnails import SIDE, thumbnail


def shown(text):
    content = re.fullmatch(r'<img src="data:image/jpeg;base64,([^"]+)" .*>', text)[1]
    return Image.open(io.BytesIO(base64.b64decode(content)))


def write_video(path, colour):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(8):
            frame = av.VideoFrame.from_ndarray(numpy.full((48, 64, 3), colour, numpy.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_large_pictures_shrink_and_tiny_ones_grow(tmp_path):
    for name, size in (("large.jpg", (900, 600)), ("tiny.png", (8, 8)), ("long.png", (2000, 3))):
        Image.new("RGB", size, (200, 30, 30)).save(tmp_path / name)
    assert shown(thumbnail(str(tmp_path / "large.jpg"))).size == (SIDE, 75)
    assert shown(thumbnail(str(tmp_path / "tiny.png"))).size == (56, 56)
    assert shown(thumbnail(str(tmp_path / "long.png"))).size == (SIDE, 1)


def test_a_video_shows_a_frame(tmp_path):
    write_video(tmp_path / "film.mp4", (20, 20, 220))
    (tmp_path / "frames").mkdir()
    Image.new("RGB", (64, 48), (20, 20, 220)).save(tmp_path / "frames" / "0001.png")
    for name in ("film.mp4", "frames"):
        red, _, blue = numpy.array(shown(thumbnail(str(tmp_path / name)))).mean((0, 1))
        assert blue > 180 > 60 > red


def test_what_cannot_be_read_leaves_its_name(tmp_path):
    (tmp_path / "a&b.png").write_bytes(b"no picture")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    (tmp_path / "empty").mkdir()
    for name, written in (
        ("a&b.png", "a&amp;b.png"),
        ("film.mp4", "film.mp4"),
        ("empty", "empty"),
        ("no.png", "no.png"),
    ):
        assert thumbnail(str(tmp_path / name)).endswith(f">{written}</span>")
