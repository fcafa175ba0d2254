"""A tensor as its file holds it, which is only ever looked at a chunk at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

CHUNK_ELEMENTS = 2**20


@dataclass(frozen=True)
class StoredTensor:
    """A mapped tensor, and what it counts as.

    Attributes:
        tensor: as in its file, usually a view of mapped memory.
        dtype: the one that its model's configuration gives it: it is rounded to that before anything else.
    """

    tensor: torch.Tensor
    dtype: torch.dtype

    @classmethod
    def plain(cls, tensor: torch.Tensor) -> "StoredTensor":
        """One that counts as what it is."""
        return cls(tensor.detach(), tensor.dtype)

    @property
    def shape(self) -> torch.Size:
        """Of the tensor."""
        return self.tensor.shape

    def value(self) -> torch.Tensor:
        """The whole tensor in its dtype."""
        return self.tensor.to(self.dtype)

    def rows(self, first: int, end: int | None = None) -> "StoredTensor":
        """A part along the first dimension."""
        return StoredTensor(self.tensor[first:end], self.dtype)

    def chunks(self, dtype: torch.dtype | None = None) -> Iterator[memoryview]:
        """The bytes in ``dtype`` (None: its own), at most :data:`CHUNK_ELEMENTS` numbers at a time."""
        for part in self._parts(dtype or self.dtype):
            yield memoryview(part.numpy())  # type: ignore[arg-type]

    def equals(self, other: "StoredTensor", dtype: torch.dtype) -> bool:
        """Whether both have the same shape, and the same bytes in ``dtype``."""
        parts = zip(self._parts(dtype), other._parts(dtype), strict=True)
        return self.shape == other.shape and all(torch.equal(one, another) for one, another in parts)

    def _parts(self, dtype: torch.dtype) -> Iterator[torch.Tensor]:
        flat = self.tensor.reshape(-1)
        for start in range(0, flat.numel(), CHUNK_ELEMENTS):
            part = flat[start : start + CHUNK_ELEMENTS].to(self.dtype).to(dtype).contiguous()
            yield part.view(torch.uint8)
