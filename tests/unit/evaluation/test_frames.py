import av
import numpy
import pytest
from PIL import Image

from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.data.videos import FrameRules
from flamingo_ds.evaluation.frames import AT_INFERENCE, load_frames


def write_video(path, seconds, rate=10):
    """Grey as bright as its tenths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = 32
        for number in range(seconds * rate):
            frame = numpy.full((32, 32, 3), number, numpy.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def seconds_of(frames):
    return [float(numpy.asarray(frame).mean()) / 10 for frame in frames]


def test_the_paper_s_thirty_frames_at_three_a_second(tmp_path):
    write_video(tmp_path / "short.mp4", 4)
    found = seconds_of(load_frames(tmp_path / "short.mp4"))
    assert len(found) == 12
    # Ten frames a second hold no exact thirds, and the code is lossy by about two shades of grey, 0.2 s.
    assert found == pytest.approx([number / 3 for number in range(12)], abs=0.32)
    write_video(tmp_path / "long.mp4", 20)
    found = seconds_of(load_frames(tmp_path / "long.mp4"))
    assert len(found) == AT_INFERENCE.count == 30
    assert found[0] == pytest.approx(5, abs=0.3)  # its middle ten seconds
    assert found[-1] == pytest.approx(14.7, abs=0.3)


def test_a_folder_gives_frames_evenly_from_end_to_end(tmp_path):
    for number in range(10):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number:03d}.png")
    reds = [frame.getpixel((0, 0))[0] for frame in load_frames(tmp_path, FrameRules(count=4, per_second=1.0))]
    assert reds == [1, 3, 6, 8]
    assert len(load_frames(tmp_path)) == 10


def test_a_picture_is_one_frame_upright_and_in_colour(tmp_path):
    image = Image.new("L", (8, 6), 7)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "grey.png", exif=exif)
    (frame,) = load_frames(tmp_path / "grey.png")
    assert (frame.size, frame.mode) == ((6, 8), "RGB")


@pytest.mark.parametrize(
    ("name", "kind"), [("x.png", "unreadable_image"), ("x.mp4", "unreadable_video"), ("no.png", "no_image")]
)
def test_what_cannot_be_read(tmp_path, name, kind):
    for written in ("x.png", "x.mp4"):
        (tmp_path / written).write_bytes(b"nothing of the kind")
    with pytest.raises(BadSample, match=kind):
        load_frames(tmp_path / name)


def test_a_folder_without_frames(tmp_path):
    with pytest.raises(BadSample, match="unreadable_video"):
        load_frames(tmp_path)
