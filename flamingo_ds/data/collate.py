"""Sequences of different lengths to one padded batch."""

from collections.abc import Sequence

import torch

from ..batch import IGNORED_LABEL, FlamingoBatch
from .sequence import TokenSequence

# Lengths are rounded up to this: fewer different shapes, and matrix units like it.
LENGTH_MULTIPLE = 8


def collate(sequences: Sequence[TokenSequence], pad_token_id: int, image_shape: tuple[int, int, int]) -> FlamingoBatch:
    """Pad on the right to the longest sequence and the most images (at least one slot).

    Args:
        sequences: B of them.
        pad_token_id: of the tokenizer.
        image_shape: (C, H, W), for a batch without any image.

    Returns:
        A batch of shapes (B, L) and (B, T, 1, C, H, W).
    """
    longest = max(len(sequence.input_ids) for sequence in sequences)
    length = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    slots = max(1, *(len(sequence.images) for sequence in sequences))
    pixels = torch.zeros(len(sequences), slots, 1, *image_shape)
    for row, sequence in zip(pixels, sequences, strict=True):
        for slot, image in zip(row, sequence.images, strict=False):
            slot[0] = image

    def pad(values: list[int], filler: int) -> list[int]:
        return values + [filler] * (length - len(values))

    return FlamingoBatch(
        input_ids=torch.tensor([pad(sequence.input_ids, pad_token_id) for sequence in sequences]),
        labels=torch.tensor([pad(sequence.labels, IGNORED_LABEL) for sequence in sequences]),
        attention_mask=torch.tensor([pad([1] * len(sequence.input_ids), 0) for sequence in sequences]),
        media_ids=torch.tensor([pad(sequence.media_ids, 0) for sequence in sequences]),
        pixel_values=pixels,
        num_images=torch.tensor([len(sequence.images) for sequence in sequences]),
    )
