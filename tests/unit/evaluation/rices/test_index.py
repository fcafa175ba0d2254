import numpy
import pytest
import torch
from PIL import Image

from flamingo_ds.config import ConfigError
from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.evaluation.rices import build_index, index, neighbours
from flamingo_ds.evaluation.task import Sample
from flamingo_ds.parallel.launch import Launch

ALONE = Launch(0, 0, 1, "127.0.0.1", 0)


class Colours:
    """Mean colour, and how many pictures it was asked for."""

    key = "colours"

    def __init__(self):
        self.seen = 0

    def features(self, images):
        self.seen += len(images)
        return torch.stack([torch.from_numpy(numpy.array(image)).float().mean((0, 1)) for image in images])


def load(path):
    if path.suffix == ".mp4":
        return [Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 255, 0))]
    try:
        return [Image.open(path).convert("RGB")]
    except OSError as error:
        raise BadSample("unreadable_image", str(error)) from error


@pytest.fixture
def samples(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "BLOCK", 8)
    monkeypatch.setattr(index, "GROUP", 3)
    rng, made = numpy.random.default_rng(0), []
    (tmp_path / "pictures").mkdir()
    for number in range(30):
        path = tmp_path / "pictures" / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=numpy.uint8)).save(path)
        made.append(Sample(str(number), (path,), answers=("x",)))
    return made


def test_features_are_means_of_length_one(samples, tmp_path):
    built = build_index(Colours(), samples, tmp_path / "cache", ALONE, load)
    pixels = [numpy.array(Image.open(sample.media[0])).mean((0, 1)) for sample in samples]
    wanted = numpy.array([row / numpy.linalg.norm(row) for row in pixels])
    numpy.testing.assert_allclose(built.features(), wanted, rtol=1e-6)
    assert [len(block) for block in built] == [8, 8, 8, 6]
    assert (neighbours(built.features(), built, 1)[:, 0] == numpy.arange(30)).all()


def test_a_second_build_computes_nothing_and_an_interrupted_one_the_rest(samples, tmp_path):
    first = Colours()
    built = build_index(first, samples, tmp_path / "cache", ALONE, load)
    again, rest = Colours(), Colours()
    build_index(again, samples, tmp_path / "cache", ALONE, load)
    wanted = built.features()
    built.paths()[2].unlink()
    rebuilt = build_index(rest, samples, tmp_path / "cache", ALONE, load)
    assert (first.seen, again.seen, rest.seen) == (30, 0, 8)
    numpy.testing.assert_array_equal(rebuilt.features(), wanted)


@pytest.mark.usefixtures("alone")
def test_ranks_share_the_work_and_give_the_same(samples, tmp_path):
    wanted = build_index(Colours(), samples, tmp_path / "one", ALONE, load).features()
    encoders = [Colours() for _ in range(3)]
    for rank, encoder in enumerate(encoders):
        built = build_index(encoder, samples, tmp_path / "three", Launch(rank, rank, 3, "127.0.0.1", 0), load)
    assert [encoder.seen for encoder in encoders] == [14, 8, 8]
    numpy.testing.assert_array_equal(built.features(), wanted)


def test_other_data_or_another_encoder_is_another_index(samples, tmp_path):
    encoder, cache = Colours(), tmp_path / "cache"
    folders = {build_index(encoder, samples, cache, ALONE, load).folder}
    folders.add(build_index(encoder, samples[:-1], cache, ALONE, load).folder)
    Image.new("RGB", (9, 9)).save(samples[0].media[0])
    folders.add(build_index(encoder, samples, cache, ALONE, load).folder)
    encoder.key = "other"
    folders.add(build_index(encoder, samples, cache, ALONE, load).folder)
    assert len(folders) == 4


def test_a_video_is_the_mean_of_its_frames(samples, tmp_path):
    given = [*samples[:5], Sample("video", (tmp_path / "frames.mp4",))]
    built = build_index(Colours(), given, tmp_path / "cache", ALONE, load)
    numpy.testing.assert_allclose(built.features()[5], [0.5**0.5, 0.5**0.5, 0], atol=1e-6)


def test_an_unreadable_picture_is_marked(samples, tmp_path):
    for number in (2, *range(8, 16)):
        samples[number].media[0].write_bytes(b"no picture")
    built = build_index(Colours(), samples, tmp_path / "cache", ALONE, load)
    assert built.unreadable() == [2, *range(8, 16)]
    assert neighbours(built.features(), built, 30).shape == (30, 21)


def test_what_cannot_be_indexed_is_refused(samples, tmp_path):
    class Broken(Colours):
        def features(self, images):
            return super().features(images) * torch.nan

    with pytest.raises(ConfigError, match="empty"):
        build_index(Colours(), [], tmp_path / "cache", ALONE, load)
    with pytest.raises(ConfigError, match="'bare' has none"):
        build_index(Colours(), [Sample("bare", ())], tmp_path / "cache", ALONE, load)
    with pytest.raises(ConfigError, match="finite"):
        build_index(Broken(), samples, tmp_path / "cache", ALONE, load)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="written to"):
        build_index(Colours(), samples, tmp_path / "file", ALONE, load)
