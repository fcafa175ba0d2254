"""The feed-forwards of the trained layers."""

import torch
from torch import nn
from transformers.activations import ACT2FN


class FeedForward(nn.Module):
    """``x -> W2 act(W1 norm(x))``, in the paper with a squared ReLU (appendix A.1.1).

    Args:
        norm: over the last axis.
        width: size of the last axis, in and out.
        hidden: size between.
        activation: one of transformers'; ``relu2`` is the squared ReLU.
    """

    def __init__(self, norm: nn.Module, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.norm = norm
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.activation = ACT2FN[activation]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., width) to (..., width); the residual is the caller's."""
        return self.down(self.activation(self.up(self.norm(hidden))))


class SwiGLU(nn.Module):
    """``x -> W3 (act(W1 norm(x)) * W2 norm(x))``, the feed-forward of Llama and of IDEFICS' gated blocks.

    Args: as :class:`FeedForward`.
    """

    def __init__(self, norm: nn.Module, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.norm = norm
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.activation = ACT2FN[activation]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., width) to (..., width); the residual is the caller's."""
        hidden = self.norm(hidden)
        return self.down(self.activation(self.gate(hidden)) * self.up(hidden))
