"""The Perceiver Resampler (paper, section 2.1 and figure 5): any number of frames in, a fixed number of latents out.

Legend: N images or videos, F frames each, P vision tokens a frame, D vision width, R latents.
"""

import torch
from torch import nn

from .attention import multi_head_attention
from .feed_forward import FeedForward


class PerceiverAttention(nn.Module):
    """Latents attend to the features and to themselves: keys and values are their concatenation."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_features = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_queries = nn.Linear(width, heads * head_width, bias=False)
        self.to_keys_values = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, features: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Features (N, F P, D) and latents (N, R, D) to (N, R, D)."""
        latents = self.norm_latents(latents)
        context = torch.cat([self.norm_features(features), latents], dim=1)
        keys, values = self.to_keys_values(context).chunk(2, dim=-1)
        return self.to_out(multi_head_attention(self.to_queries(latents), keys, values, self.heads))


class PerceiverBlock(nn.Module):
    """One layer: attention, then feed-forward, each with its residual."""

    def __init__(self, width: int, heads: int, head_width: int, multiplier: int) -> None:
        super().__init__()
        self.attention = PerceiverAttention(width, heads, head_width)
        self.feed_forward = FeedForward(width, multiplier)

    def forward(self, features: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Features (N, F P, D) and latents (N, R, D) to (N, R, D)."""
        latents = latents + self.attention(features, latents)
        return latents + self.feed_forward(latents)


class PerceiverResampler(nn.Module):
    """Learned latents read the features of all frames of an image or a video.

    The encodings added to the features tell frames apart and nothing else: the paper found spatial ones useless.

    Args:
        width: D, of the vision tokens and of the latents.
        depth: number of layers.
        latents: R.
        heads, head_width: of its attention.
        max_frames: number of temporal encodings.
        multiplier: hidden width of the feed-forward, in D.
    """

    def __init__(
        self, width: int, depth: int, latents: int, heads: int, head_width: int, max_frames: int, multiplier: int
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(latents, width))
        self.frame_encodings = nn.Parameter(torch.empty(max_frames, width))
        self.blocks = nn.ModuleList(PerceiverBlock(width, heads, head_width, multiplier) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, F, P, D) to latents (N, R, D).

        Raises:
            ValueError: more frames than temporal encodings.
        """
        frames, known = features.shape[1], self.frame_encodings.shape[0]
        if frames > known:
            raise ValueError(f"a video has {frames} frames; expected at most {known} (max_frames)")
        features = (features + self.frame_encodings[:frames, None]).flatten(1, 2)
        latents = self.latents.expand(features.shape[0], -1, -1)
        for block in self.blocks:
            latents = block(features, latents)
        return self.norm(latents)
