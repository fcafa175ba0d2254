"""What a micro-batch looks like, for counting what it needs."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BatchShape:
    """A micro-batch of one rank.

    Attributes:
        sequences: B.
        tokens: L.
        images: T, all real.
        image_size: pixels a side.
        frames: F.
        media_ids: (B, L) 1-based image of each token; None: the images stand evenly in the text.
        targets: N; None: every token behind the first.
        padded: whether some sequence has padding, so that the LM builds a mask.
    """

    sequences: int
    tokens: int
    images: int
    image_size: int
    frames: int = 1
    media_ids: tuple[tuple[int, ...], ...] | None = None
    targets: int | None = None
    padded: bool = True

    def input_bytes(self, element: int) -> int:
        """Of the batch itself: four int64 a token, ``num_images``, ``num_frames``, and pixels of ``element`` bytes."""
        pixels = self.sequences * self.images * self.frames * 3 * self.image_size**2
        return 8 * self.sequences * (4 * self.tokens + 1 + self.images) + element * pixels

    def example_media_ids(self) -> torch.Tensor:
        """(B, L) on the CPU."""
        if self.media_ids is not None:
            return torch.tensor(self.media_ids)
        row = torch.arange(self.tokens) * self.images // self.tokens + 1
        return row.expand(self.sequences, -1)
