import numpy
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_ds.data.buffers import PixelBuffers
from flamingo_ds.data.collate import collate
from flamingo_ds.data.sequence import TokenSequence

from .conftest import TRANSFORM

PAD, SHAPE = 99, (3, 2, 2)


def sequence(length: int, images: int) -> TokenSequence:
    ids = list(range(1, length + 1))
    return TokenSequence(
        ids, [-100, *ids[1:]], [images] * length, [numpy.full((1, 2, 2, 3), n + 1, numpy.uint8) for n in range(images)]
    )


def test_padding_by_hand():
    batch = collate([sequence(2, 1), sequence(9, 0)], PAD, TRANSFORM, PixelBuffers())
    # Nine tokens are rounded up to 16.
    assert batch.input_ids.tolist() == [[1, 2] + [PAD] * 14, [1, 2, 3, 4, 5, 6, 7, 8, 9] + [PAD] * 7]
    assert batch.labels.tolist() == [[-100, 2] + [-100] * 14, [-100, 2, 3, 4, 5, 6, 7, 8, 9] + [-100] * 7]
    assert batch.attention_mask.tolist() == [[1] * 2 + [0] * 14, [1] * 9 + [0] * 7]
    assert batch.media_ids.tolist() == [[1] * 2 + [0] * 14, [0] * 16]
    assert batch.num_images.tolist() == [1, 0]
    assert batch.pixel_values.shape == (2, 1, 1, *SHAPE)
    assert (batch.pixel_values[0].round() == 1).all()
    assert (batch.pixel_values[1] == 0).all()


def test_a_batch_without_images_has_one_empty_slot():
    # The model's shapes stay the same on every rank, whatever the documents hold.
    batch = collate([sequence(3, 0)], PAD, TRANSFORM, PixelBuffers())
    assert batch.pixel_values.shape == (1, 1, 1, *SHAPE)
    assert batch.num_images.tolist() == [0]


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), min_size=1, max_size=5))
def test_nothing_is_lost_and_nothing_but_padding_is_added(sizes):
    batch = collate([sequence(*size) for size in sizes], PAD, TRANSFORM, PixelBuffers())
    length = batch.input_ids.shape[1]
    assert length % 8 == 0
    assert 0 <= length - max(tokens for tokens, _ in sizes) < 8
    assert batch.pixel_values.shape == (len(sizes), max(1, *(images for _, images in sizes)), 1, *SHAPE)
    for row, (tokens, images) in enumerate(sizes):
        original = sequence(tokens, images)
        assert batch.input_ids[row].tolist() == original.input_ids + [PAD] * (length - tokens)
        assert batch.labels[row].tolist() == original.labels + [-100] * (length - tokens)
        assert batch.media_ids[row].tolist() == original.media_ids + [0] * (length - tokens)
        assert batch.attention_mask[row].tolist() == [1] * tokens + [0] * (length - tokens)
        assert batch.num_images[row] == images
        assert [round(float(slot.max())) for slot in batch.pixel_values[row, :images]] == list(range(1, images + 1))
        assert not batch.pixel_values[row, images:].any()
    integers = (batch.input_ids, batch.labels, batch.attention_mask, batch.media_ids, batch.num_images)
    assert {tensor.dtype for tensor in integers} == {torch.int64}
    assert batch.num_tokens() == sum(tokens for tokens, _ in sizes)
    assert batch.num_targets() == sum(tokens - 1 for tokens, _ in sizes)


def test_videos_of_different_lengths_are_padded_with_frames_that_count_as_none():
    clip = [TokenSequence([1, 2], [-100, 2], [1, 1], [numpy.full((f, 2, 2, 3), f, numpy.uint8)]) for f in (3, 1)]
    batch = collate(clip, PAD, TRANSFORM, PixelBuffers())
    assert batch.pixel_values.shape == (2, 1, 3, *SHAPE)
    assert batch.num_frames.tolist() == [[3], [1]]
    assert batch.pixel_values[:, 0, :, 0, 0, 0].round().tolist() == [[3, 3, 3], [1, 0, 0]]
