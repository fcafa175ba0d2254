"""The gated cross-attention block that stands before a frozen LM block (paper, section 2.2 and figure 4).

Legend: B sequences, L tokens, H LM width, T images a sequence, R latents an image, D vision width.
"""

import torch
from torch import nn

from .attention import multi_head_attention
from .feed_forward import FeedForward
from .tanh_gate import TanhGate


class MediaCrossAttention(nn.Module):
    """Text tokens look at the latents that the media mask lets them see."""

    def __init__(self, width: int, media_width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_queries = nn.Linear(width, heads * head_width, bias=False)
        self.to_keys_values = nn.Linear(media_width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, hidden: torch.Tensor, media: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Hidden (B, L, H), media (B, T R, D), mask (B, L, T R) bool, to (B, L, H); 0 where a row sees nothing."""
        keys, values = self.to_keys_values(media).chunk(2, dim=-1)
        sees_media = mask.any(-1, keepdim=True)
        # A softmax over nothing is NaN, so such a row may look everywhere and its result is dropped.
        attended = multi_head_attention(
            self.to_queries(self.norm(hidden)), keys, values, self.heads, (mask | ~sees_media)[:, None]
        )
        return self.to_out(attended.masked_fill(~sees_media, 0.0))


class GatedCrossAttentionBlock(nn.Module):
    """``y = x + tanh(a) attention(x, media)``, then ``y + tanh(b) feed_forward(y)``; a = b = 0 leaves the LM as it was.

    The feed-forward also acts on tokens that see no image.

    Args:
        width: H.
        media_width: D.
        heads, head_width: of the cross-attention.
        multiplier: hidden width of the feed-forward, in H.
        initial_gate: a and b at the start.
    """

    def __init__(
        self, width: int, media_width: int, heads: int, head_width: int, multiplier: int, initial_gate: float
    ) -> None:
        super().__init__()
        self.attention = MediaCrossAttention(width, media_width, heads, head_width)
        self.attention_gate = TanhGate(initial_gate)
        self.feed_forward = FeedForward(width, multiplier)
        self.feed_forward_gate = TanhGate(initial_gate)

    def forward(self, hidden: torch.Tensor, media: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Hidden (B, L, H), media (B, T R, D), mask (B, L, T R) bool, to (B, L, H)."""
        hidden = hidden + self.attention_gate(self.attention(hidden, media, mask))
        return hidden + self.feed_forward_gate(self.feed_forward(hidden))
