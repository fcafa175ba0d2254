"""What an index needs of a vision encoder."""

from collections.abc import Sequence
from typing import Protocol

import torch
from PIL import Image


class Encoder(Protocol):
    """A frozen vision encoder.

    Attributes:
        key: which encoder it is; features of another key are others.
    """

    key: str

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """One feature an image, pooled over its tokens: (N, D) float32 on the CPU."""
        ...
