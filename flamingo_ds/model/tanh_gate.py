"""The tanh gate (paper, section 2.2)."""

import torch
from torch import nn


class TanhGate(nn.Module):
    """``x -> tanh(gate) x`` with one learned scalar.

    Args:
        initial: the scalar at the start; the paper's 0 makes the branch vanish.
    """

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.initial = initial
        # One element on one axis, not a scalar: sharded layouts flatten and split parameters.
        self.gate = nn.Parameter(torch.empty(1))

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """Scale a tensor of any shape, in its own dtype."""
        return self.gate.tanh().to(branch.dtype) * branch
