import io
import random

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from transformers import CLIPImageProcessor, SiglipImageProcessor

from flamingo_ds.config import ConfigError
from flamingo_ds.config.schema import Fit
from flamingo_ds.data.image_transform import Augmentation, ImageTransform
from flamingo_ds.data.pictures import Picture
from flamingo_ds.model.picture_fit import fit_picture

PROCESSORS = {
    "clip": CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}),
    "larger": CLIPImageProcessor(size={"shortest_edge": 60}, crop_size={"height": 48, "width": 48}, resample=2),
    "siglip": SiglipImageProcessor(size={"height": 48, "width": 48}),
}


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with soft edges, as photographs have."""
    noise = numpy.random.default_rng(seed).integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), numpy.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def normalised(transform: ImageTransform, image: Image.Image) -> torch.Tensor:
    out = torch.empty(3, transform.height, transform.width)
    transform.normalise(transform(numpy.array(image)), out)
    return out


def apart(transform, one, other):
    """The largest difference in steps of 1/255."""
    return float(((one - other) * torch.tensor(transform.std).reshape(3, 1, 1)).abs().max() * 255)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PROCESSORS)), st.integers(20, 300), st.integers(20, 300), st.integers(0, 9))
def test_pixels_are_the_processor_s(name, width, height, seed):
    processor = PROCESSORS[name]
    transform, image = ImageTransform.of(processor), smooth(width, height, seed)
    wanted = processor(image, return_tensors="pt")["pixel_values"][0]
    assert apart(transform, normalised(transform, image), wanted) < 0.01


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(Fit)), st.sampled_from(["clip", "siglip"]), st.integers(20, 300), st.integers(20, 300))
def test_another_fit_is_within_two_steps_of_pillow_s_and_holds_in_the_exported_processor(fit, name, width, height):
    processor, image = PROCESSORS[name], smooth(width, height)
    transform = ImageTransform.of(processor, fit)
    wanted = processor(fit_picture(image, fit.value, processor), return_tensors="pt")["pixel_values"][0]
    assert apart(transform, normalised(transform, image), wanted) <= 2.01


def test_padding_is_the_mean_and_nothing_is_cut_off():
    transform = ImageTransform.of(PROCESSORS["clip"], Fit.pad)
    pixels = normalised(transform, Image.new("RGB", (200, 100), (255, 0, 0)))
    assert pixels[:, :11].abs().max() < 0.01  # half a step of 1/255 over the deviation
    assert pixels[:, -11:].abs().max() < 0.01
    assert (pixels[0, 12:36] > 1).all()


def test_a_processor_that_does_more_is_refused():
    class Inverts(CLIPImageProcessor):
        def __call__(self, images, **options):
            found = super().__call__(images, **options)
            found["pixel_values"] = -found["pixel_values"]
            return found

    with pytest.raises(ConfigError, match="model.vision_encoder.source = 'Inverts': expected an image processor that"):
        ImageTransform.of(Inverts())


@pytest.mark.parametrize(("side", "reduced"), [(1100, 0), (480, 1), (200, 2), (100, 3), (20, 3)])
def test_a_jpeg_is_decoded_at_a_reduced_scale_where_the_target_is_small(side, reduced):
    file = io.BytesIO()
    smooth(2401, 1999).save(file, "JPEG")
    pixels = Picture(file.getvalue()).decode(side)
    assert pixels.shape == (-(-1999 // 2**reduced), -(-2401 // 2**reduced), 3)
    assert min(pixels.shape[:2]) >= side


@pytest.mark.parametrize("side", [24, 48, 100])
def test_reduced_decoding_is_pillow_s_and_hardly_seen(side):
    file = io.BytesIO()
    smooth(800, 600).save(file, "JPEG", quality=90)
    picture = Picture(file.getvalue())
    whole, reduced = (picture.decode(target) for target in (None, side))
    with Image.open(file) as drafted:
        drafted.draft("RGB", (reduced.shape[1], reduced.shape[0]))
        assert abs(numpy.asarray(drafted).astype(int) - reduced).max() == 0
    transform = ImageTransform(side, side, side, Fit.crop, 3, (0.5,) * 3, (0.5,) * 3)
    difference = (transform(whole).int() - transform(reduced).int()).abs()
    # Against decoding at full size: measured 0.4 to 0.7 steps of 1/255 on average, 5 at the most.
    assert difference.float().mean() < 1
    assert difference.max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_are_turned_upright_as_pillow_does_it(orientation, kind):
    image = smooth(40, 24)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    with Image.open(file) as opened:
        wanted = numpy.array(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    assert abs(Picture(file.getvalue()).decode().astype(int) - wanted).max() <= 1


def test_flips_and_colour_are_drawn_and_the_same_seed_draws_the_same():
    augmentation = Augmentation(flip=0.5, colour_jitter=0.2)
    drawn = [augmentation.draw(random.Random(seed)) for seed in range(400)]
    assert 150 < sum(mirrored for mirrored, _ in drawn) < 250
    factors = [factor for _, three in drawn for factor in three]
    assert 0.8 <= min(factors) < 0.82
    assert 1.18 < max(factors) <= 1.2
    assert drawn[:5] == [augmentation.draw(random.Random(seed)) for seed in range(5)]


def test_what_augmentation_does():
    transform = ImageTransform.of(PROCESSORS["clip"])
    image = transform(numpy.array(smooth(60, 60)))
    assert torch.equal(transform.augment(image, False, []), image)
    assert torch.equal(transform.augment(image, True, []), image.flip(-1))
    darker = transform.augment(image, False, [0.5, 1.0, 1.0])
    assert (darker.int() - image.int() // 2).abs().max() <= 1
    grey = transform.augment(image, False, [1.0, 1.0, 0.0]).int()
    assert (grey.amax(0) - grey.amin(0)).max() <= 1
