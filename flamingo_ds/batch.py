"""The one contract between data and model.

Legend of shapes, used by every file: B sequences, L tokens, T images a sequence (padded), F frames an image,
C channels, H x W pixels.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch

IGNORED_LABEL = -100


@dataclass(frozen=True)
class FlamingoBatch:
    """Tokens and images of B sequences.

    Attributes:
        input_ids: (B, L) int64.
        labels: (B, L) int64, ``IGNORED_LABEL`` where nothing is predicted; not shifted.
        attention_mask: (B, L) int64, 1 for real tokens.
        media_ids: (B, L) int64, 1-based index of the image that each token belongs to, 0 for none.
        pixel_values: (B, T, F, C, H, W) float32, normalised.
        num_images: (B,) int64, how many of T are real.
        num_frames: (B, T) int64, how many of F are real; 0 for an image that is not.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor
    media_ids: torch.Tensor
    pixel_values: torch.Tensor
    num_images: torch.Tensor
    num_frames: torch.Tensor

    @classmethod
    def empty(cls) -> "FlamingoBatch":
        """No sequence at all, for ranks that read nothing; every dimension is 0."""
        tokens = torch.zeros(0, 0, dtype=torch.int64)
        return cls(
            input_ids=tokens,
            labels=tokens,
            attention_mask=tokens,
            media_ids=tokens,
            pixel_values=torch.zeros(0, 0, 0, 0, 0, 0),
            num_images=torch.zeros(0, dtype=torch.int64),
            num_frames=tokens,
        )

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def __getitem__(self, rows: slice) -> "FlamingoBatch":
        """Some of the sequences."""
        return FlamingoBatch(**{name: tensor[rows] for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, torch.Tensor]:
        """The fields by name, as the model's ``forward`` calls them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "FlamingoBatch":
        """Moved to a device; the pixels also to a dtype."""
        moved: dict[str, Any] = {
            name: tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)
            for name, tensor in self.tensors().items()
        }
        return FlamingoBatch(**moved)

    def num_targets(self) -> int:
        """How many tokens are predicted: labels after the first position that are not ignored."""
        return int((self.labels[:, 1:] != IGNORED_LABEL).sum())

    def num_tokens(self) -> int:
        """Real tokens, padding apart."""
        return int(self.attention_mask.sum())
