"""Memory of batches, used again: fresh pages cost more than normalising the pixels that go into them."""

import sys
from math import prod

import numpy
import torch

# References to a buffer that nobody else uses: the list's, and getrefcount's own argument.
UNUSED = 2


class PixelBuffers:
    """float32 tensors whose memory comes back when the last tensor on it is gone.

    A tensor made from a numpy array holds a reference to it as long as anything, a slice or a reshaped view, shares its
    memory; so the count of references says who may write, and no caller has to hand anything back.
    """

    def __init__(self) -> None:
        self._buffers: list[numpy.ndarray] = []

    def take(self, *shape: int) -> torch.Tensor:
        """A tensor of this shape with any content."""
        size = prod(shape)
        idle = [number for number in range(len(self._buffers)) if self._idle(number)]
        for number in idle:
            if self._buffers[number].size >= size:
                return torch.from_numpy(self._buffers[number][:size]).view(shape)
        # What lies idle is too small: batches have grown.
        self._buffers = [buffer for number, buffer in enumerate(self._buffers) if number not in idle]
        self._buffers.append(numpy.empty(size, numpy.float32))
        return torch.from_numpy(self._buffers[-1][:]).view(shape)

    def _idle(self, number: int) -> bool:
        return sys.getrefcount(self._buffers[number]) == UNUSED
