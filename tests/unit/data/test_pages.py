"""OBELICS' and MMC4's layouts, and pages that go on without some of their pictures."""

import base64
import json

import pytest

from flamingo_ds.config import DatasetConfig
from flamingo_ds.config.schema import SampleFormat
from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.data.decoder import Decoder
from flamingo_ds.data.documents import reader_of
from flamingo_ds.data.shards import RawSample

from .conftest import TRANSFORM, rules_of
from .making import picture
from .test_sequence import BOS, CAT, DOG, EOC, IMG, NO, RED, A, rows


def read(page, members, rules=None, **switches):
    config = DatasetConfig(SampleFormat.interleaved, "", batch_size=1, **switches)
    decoder = Decoder(
        reader_of(config), rules or rules_of(), TRANSFORM, keep_without_images=config.keep_pages_without_images
    )
    return decoder(RawSample("a.tar", "1", {"json": json.dumps(page).encode(), **members}))


def reds(sequence):
    return [int(media[0, 0, 0, 0]) for media in sequence.media]


def test_an_obelics_page_token_by_token():
    page = {
        "texts": [None, "red cat", None, None, "dog"],
        "images": ["https://x.org/a.jpg", None, "https://x.org/gone.jpg", "https://x.org/b.jpg", None],
        "metadata": "[]",
    }
    sequence = read(page, {"0.png": picture(7), "2.png": picture(9)})
    assert rows(sequence) == [
        (BOS, NO, 0),
        (IMG, NO, 1),
        (RED, RED, 1),
        (CAT, CAT, 1),
        (EOC, EOC, 1),
        (IMG, NO, 2),
        (DOG, DOG, 2),
        (EOC, EOC, 2),
    ]
    assert reds(sequence) == [7, 9]
    assert sequence.left_out == ["missing_pair"]


def mmc4(*infos):
    return {"url": "https://x.org", "text_list": ["red", "a cat", "dog"], "image_info": list(infos)}


def test_an_mmc4_page_token_by_token():
    page = mmc4(
        {"matched_text_index": 2, "matched_sim": 0.3, "image_name": "AB12.png"},
        {"matched_text_index": 1, "matched_sim": 0.25, "image_base64": base64.b64encode(picture(9)).decode()},
    )
    sequence = read(page, {"ab12.png": picture(7)})
    assert rows(sequence) == [
        (BOS, NO, 0),
        (RED, RED, 0),
        (EOC, EOC, 0),
        (IMG, NO, 1),
        (A, A, 1),
        (CAT, CAT, 1),
        (EOC, EOC, 1),
        (IMG, NO, 2),
        (DOG, DOG, 2),
        (EOC, EOC, 2),
    ]
    assert reds(sequence) == [9, 7]


def test_mmc4_images_may_be_numbered():
    page = mmc4({"matched_text_index": 0}, {"matched_text_index": 0})
    assert reds(read(page, {"0.jpg": picture(7), "1.jpg": picture(9)})) == [7, 9]


def test_a_low_similarity_leaves_an_image_out():
    page = mmc4({"matched_text_index": 0, "matched_sim": 0.2}, {"matched_text_index": 1, "matched_sim": 0.24})
    members = {"0.jpg": picture(7), "1.jpg": picture(9)}
    sequence = read(page, members, min_similarity=0.24)
    assert (reds(sequence), sequence.left_out) == ([9], ["too_dissimilar"])
    assert read(page, members, min_similarity=0.3).kind == "too_dissimilar"


@pytest.mark.parametrize(
    "page",
    [
        {"text_list": "a", "image_info": []},
        {"text_list": [1]},
        {"text_list": ["a"], "image_info": [1]},
        {"text_list": ["a"], "image_info": [{"matched_text_index": 1}]},
        {"text_list": ["a"], "image_info": [{"matched_text_index": "0"}]},
    ],
)
def test_an_mmc4_page_that_makes_no_sense(page):
    assert read(page, {}).kind == "broken_json"


def test_base64_that_is_none_leaves_an_image_out():
    page = mmc4({"matched_text_index": 0, "image_base64": "???"}, {"matched_text_index": 1})
    sequence = read(page, {"1.jpg": picture(9)})
    assert (reds(sequence), sequence.left_out) == ([9], ["unreadable_image"])


PLAIN = {"texts": [None, "a", None, "cat", None], "images": [0, None, 1, None, 2]}


def test_small_and_long_images_are_left_out():
    members = {
        "0.png": picture(7, size=(63, 90)),
        "1.png": picture(9, size=(64, 192)),
        "2.png": picture(5, size=(64, 193)),
    }
    sequence = read(PLAIN, members, min_image_side=64, max_image_aspect=3)
    assert (reds(sequence), sequence.left_out) == ([9], ["too_small", "too_long_a_shape"])
    sequence = read(PLAIN, members)
    assert (reds(sequence), sequence.left_out) == ([7, 9, 5], [])


def test_an_image_that_turns_out_damaged_is_left_out_as_if_it_had_never_been_there():
    damaged = {"0.png": picture(7), "1.png": picture(9, "JPEG", (64, 64))[:-2], "2.png": picture(5)}
    sequence = read(PLAIN, damaged)
    assert (reds(sequence), sequence.left_out) == ([7, 5], ["truncated_image"])
    without = {"texts": [None, "a", "cat", None], "images": [0, None, None, 1]}
    assert rows(sequence) == rows(read(without, {"0.png": picture(7), "1.png": picture(5)}))


def test_an_image_outside_the_window_is_not_decoded():
    members = {"0.png": picture(7), "1.png": picture(9, "JPEG", (64, 64))[:-2], "2.png": picture(5)}
    sequence = read(PLAIN, members, rules_of(max_images=1))
    assert (reds(sequence), sequence.left_out) == ([7], [])


def test_pages_without_a_usable_image_are_dropped_or_kept():
    text = {"texts": ["a cat"], "images": [None]}
    damaged = {"texts": [None, "a cat"], "images": [0, None]}
    broken = {"0.png": picture(9, "JPEG", (64, 64))[:-2]}
    assert read(text, {}).kind == "no_image"
    assert read(damaged, broken).kind == "truncated_image"
    for page, members in ((text, {}), (damaged, broken)):
        sequence = read(page, members, keep_pages_without_images=True)
        assert not isinstance(sequence, BadSample)
        assert rows(sequence) == [(BOS, NO, 0), (A, A, 0), (CAT, CAT, 0), (EOC, EOC, 0)]
