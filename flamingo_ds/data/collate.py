"""Sequences of different lengths to one padded batch."""

from collections.abc import Sequence

import torch

from ..batch import IGNORED_LABEL, FlamingoBatch
from .buffers import PixelBuffers
from .image_transform import ImageTransform
from .sequence import TokenSequence

# Lengths are rounded up to this: fewer different shapes, and matrix units like it.
LENGTH_MULTIPLE = 8


def collate(
    sequences: Sequence[TokenSequence], pad_token_id: int, transform: ImageTransform, buffers: PixelBuffers
) -> FlamingoBatch:
    """Pad on the right to the longest sequence, the most images and the most frames (at least one each).

    Args:
        sequences: B of them.
        pad_token_id: of the tokenizer.
        transform: normalises the pixels.
        buffers: for the pixels.

    Returns:
        A batch of shapes (B, L) and (B, T, F, C, H, W).
    """
    longest = max(len(sequence.input_ids) for sequence in sequences)
    length = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    slots = max(1, *(len(sequence.media) for sequence in sequences))
    frames = max((len(media) for sequence in sequences for media in sequence.media), default=1)
    pixels = buffers.take(len(sequences), slots, frames, 3, transform.height, transform.width)
    num_frames = torch.zeros(len(sequences), slots, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        for slot, media in enumerate(sequence.media):
            num_frames[row, slot] = len(media)
            transform.normalise(torch.from_numpy(media).permute(0, 3, 1, 2), pixels[row, slot, : len(media)])
            pixels[row, slot, len(media) :] = 0
        pixels[row, len(sequence.media) :] = 0

    def pad(values: list[int], filler: int) -> list[int]:
        return values + [filler] * (length - len(values))

    return FlamingoBatch(
        input_ids=torch.tensor([pad(sequence.input_ids, pad_token_id) for sequence in sequences]),
        labels=torch.tensor([pad(sequence.labels, IGNORED_LABEL) for sequence in sequences]),
        attention_mask=torch.tensor([pad([1] * len(sequence.input_ids), 0) for sequence in sequences]),
        media_ids=torch.tensor([pad(sequence.media_ids, 0) for sequence in sequences]),
        pixel_values=pixels,
        num_images=torch.tensor([len(sequence.media) for sequence in sequences]),
        num_frames=num_frames,
    )
