"""The feed-forward of every trained layer."""

import torch
from torch import nn


class FeedForward(nn.Module):
    """``x -> W2 relu(W1 LN(x))^2`` (paper, appendix A.1.1: squared ReLU in all trainable layers).

    Args:
        width: size of the last axis, in and out.
        multiplier: hidden width, in ``width``.
    """

    def __init__(self, width: int, multiplier: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, multiplier * width, bias=False)
        self.down = nn.Linear(multiplier * width, width, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., width) to (..., width); the residual is the caller's."""
        return self.down(torch.relu(self.up(self.norm(hidden))).square())
