import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.data.documents import Document
from flamingo_ds.data.interleaved import PageReader
from flamingo_ds.data.pairs import ImageTextReader
from flamingo_ds.data.pictures import PictureRules
from flamingo_ds.data.shards import RawSample

from .making import page, pair, picture


def sample_of(members):
    """The dict that a shard gives for the members of one sample."""
    return {name.partition(".")[2]: content for name, content in members}


def read_image_text(members, rules=None):
    """Texts, and pixels of pictures."""
    return decoded(ImageTextReader(rules or PictureRules())(RawSample("a.tar", "1", members)))


def read_interleaved(members, rules=None, **switches):
    return decoded(PageReader(rules or PictureRules(), **switches)(RawSample("a.tar", "1", members)))


def decoded(document: Document):
    return [part if isinstance(part, str) else Image.fromarray(part.decode()) for part in document.parts]


def told(parts):
    """Texts as they are, images as the red channel of their corner."""
    return [part if isinstance(part, str) else part.getpixel((0, 0))[0] for part in parts]


def kind_of(read, sample):
    with pytest.raises(BadSample) as caught:
        read(sample)
    assert caught.value.reason
    return caught.value.kind


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_a_pair_is_an_image_and_its_text(suffix, kind):
    image, text = read_image_text({suffix: picture(200, kind), "txt": b" a red cat\n"})
    assert (image.mode, image.size) == ("RGB", (8, 8))
    assert abs(image.getpixel((0, 0))[0] - 200) < 4  # JPEG and WebP round
    assert text == "a red cat"


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_images_of_any_mode_come_as_rgb(mode):
    file = io.BytesIO()
    Image.new(mode, (8, 8)).save(file, "JPEG" if mode == "CMYK" else "PNG")
    image, _ = read_image_text({"png": file.getvalue(), "txt": b"a"})
    assert image.mode == "RGB"


def test_a_page_keeps_its_order():
    texts, images = ["a dog", None, "red", None, "cat"], [None, 1, None, 0, None]
    document = read_interleaved(sample_of(page("1", texts, images, [picture(10), picture(20)])))
    assert told(document) == ["a dog", 20, "red", 10, "cat"]


def test_a_page_may_show_an_image_twice():
    document = read_interleaved(sample_of(page("1", [None, "a", None], [0, None, 0], [picture(10)])))
    assert told(document) == [10, "a", 10]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"txt": None}, "missing_pair"),
        ({"png": None}, "missing_pair"),
        ({"txt": b""}, "no_text"),
        ({"txt": b" \n"}, "no_text"),
        ({"txt": b"caf\xe9"}, "undecodable_text"),
        ({"png": b""}, "unreadable_image"),
        ({"png": b"no image"}, "unreadable_image"),
        ({"png": picture(1, "JPEG")[:300]}, "truncated_image"),
        ({"png": picture(1, "JPEG")[:-2]}, "truncated_image"),
        ({"png": picture(1, "PNG")[:50]}, "truncated_image"),
        ({"png": picture(1, "WEBP")[:20]}, "unreadable_image"),
    ],
)
def test_a_pair_that_cannot_be_used(change, kind):
    sample = {**sample_of(pair("1")), **change}
    assert kind_of(read_image_text, {name: content for name, content in sample.items() if content is not None}) == kind


def test_a_picture_from_the_web_starts_no_ghostscript(monkeypatch):
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments, **options: started.append(arguments))
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "EPS")
    assert kind_of(read_image_text, {"jpg": file.getvalue(), "txt": b"a"}) == "unreadable_image"
    assert not started


@pytest.mark.parametrize("factor", [1.5, 3])
def test_a_decompression_bomb_is_not_decoded(monkeypatch, factor):
    # PIL warns above its limit and raises above twice the limit: neither image is wanted.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(64 / factor))
    assert kind_of(read_image_text, sample_of(pair("1"))) == "too_large_image"


@given(
    position=st.integers(0, 10**6),
    byte=st.integers(0, 255),
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF"]),
)
def test_no_damage_to_an_image_ends_the_run(position, byte, kind):
    content = bytearray(picture(77, kind))
    content[position % len(content)] = byte
    try:
        image, _ = read_image_text({"jpg": bytes(content), "txt": b"a"})
        assert image.mode == "RGB"
    except BadSample as bad:
        assert bad.kind in ("unreadable_image", "truncated_image", "too_large_image", "too_small")


PICTURE = {"0.png": picture(10)}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "broken_json"),
        (b"[]", "broken_json"),
        (b"{}", "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'{"texts": ["a"], "images": []}', "broken_json"),
        (b'{"texts": 1, "images": 2}', "broken_json"),
        # Each place is one text or one image.
        (b'{"texts": ["a", null], "images": [0, null]}', "broken_json"),
        (b'{"texts": ["a", null], "images": [null, null]}', "broken_json"),
        (b'{"texts": [5, null], "images": [null, 0]}', "broken_json"),
        (b'{"texts": ["a", null], "images": [null, true]}', "broken_json"),
        (b'{"texts": ["caf\xe9", null], "images": [null, 0]}', "undecodable_text"),
        (b'{"texts": ["half \\ud800", null], "images": [null, 0]}', "undecodable_text"),
        (b'{"texts": ["a"], "images": [null]}', "no_image"),
        (b'{"texts": [], "images": []}', "no_text"),
        (b'{"texts": [null], "images": [0]}', "no_text"),
        (b'{"texts": [null, " "], "images": [0, null]}', "no_text"),
        (b'{"texts": [null, "a"], "images": [1, null]}', "missing_pair"),
    ],
)
def test_a_page_that_cannot_be_used(content, kind):
    assert kind_of(read_interleaved, {**PICTURE, "json": content}) == kind


def test_a_page_without_json():
    assert kind_of(read_interleaved, PICTURE) == "missing_pair"


def test_a_page_goes_on_without_an_unreadable_image():
    members = page("1", [None, "a", None], [0, None, 1], [picture(10), b""])
    assert told(read_interleaved(sample_of(members))) == [10, "a"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["texts", "images"]), inner),
    max_leaves=8,
)


@given(json_values)
def test_whatever_the_json_says_it_is_a_document_or_a_bad_sample(value):
    sample = {**PICTURE, "json": json.dumps(value).encode()}
    try:
        document = read_interleaved(sample)
    except BadSample:
        return
    assert all(isinstance(part, str | Image.Image) for part in document)
