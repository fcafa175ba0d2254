"""The Perceiver Resampler (paper, section 2.1 and figure 5): any number of frames in, a fixed number of latents out.

Legend: N images or videos, F frames each, P vision tokens a frame, D resampler width, R latents.
"""

import torch
from torch import nn
from torch.nn.functional import interpolate

from .attention import multi_head_attention
from .feed_forward import FeedForward


class PerceiverAttention(nn.Module):
    """Latents attend to the features and to themselves: keys and values are their concatenation."""

    def __init__(self, width: int, heads: int, head_width: int, query_key_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm_features = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_queries = nn.Linear(width, heads * head_width, bias=False)
        self.to_keys_values = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)
        self.query_norm = nn.LayerNorm(head_width) if query_key_norm else None
        self.key_norm = nn.LayerNorm(head_width) if query_key_norm else None

    def forward(self, features: torch.Tensor, latents: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Features (N, F P, D) and latents (N, R, D), mask (N, 1, 1, F P + R) bool, to (N, R, D)."""
        latents = self.norm_latents(latents)
        context = torch.cat([self.norm_features(features), latents], dim=1)
        keys, values = self.to_keys_values(context).chunk(2, dim=-1)
        queries = self.to_queries(latents)
        return self.to_out(
            multi_head_attention(queries, keys, values, self.heads, mask, self.query_norm, self.key_norm)
        )


class PerceiverBlock(nn.Module):
    """One layer: attention, then feed-forward, each with its residual."""

    def __init__(
        self, width: int, heads: int, head_width: int, multiplier: int, activation: str, query_key_norm: bool
    ) -> None:
        super().__init__()
        self.attention = PerceiverAttention(width, heads, head_width, query_key_norm)
        self.feed_forward = FeedForward(nn.LayerNorm(width), width, multiplier * width, activation)

    def forward(self, features: torch.Tensor, latents: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Features (N, F P, D) and latents (N, R, D), mask (N, 1, 1, F P + R) bool, to (N, R, D)."""
        latents = latents + self.attention(features, latents, mask)
        return latents + self.feed_forward(latents)


class PerceiverResampler(nn.Module):
    """Learned latents read the features of all frames of an image or a video.

    The encodings added to the features tell frames apart and nothing else: the paper found spatial ones useless.

    Args:
        features_width: of the vision tokens; projected where it is not D.
        width: D, of the latents.
        depth: number of layers.
        latents: R.
        heads, head_width: of its attention.
        max_frames: number of temporal encodings; 0 for none.
        multiplier: hidden width of the feed-forward, in D.
        activation: of the feed-forward.
        query_key_norm: LayerNorm on queries and keys.
    """

    def __init__(
        self,
        features_width: int,
        width: int,
        depth: int,
        latents: int,
        heads: int,
        head_width: int,
        max_frames: int,
        multiplier: int,
        activation: str = "relu2",
        query_key_norm: bool = False,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(features_width, width, bias=False) if features_width != width else None
        self.latents = nn.Parameter(torch.empty(latents, width))
        self.frame_encodings = nn.Parameter(torch.empty(max_frames, width)) if max_frames else None
        self.blocks = nn.ModuleList(
            PerceiverBlock(width, heads, head_width, multiplier, activation, query_key_norm) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, features: torch.Tensor, num_frames: torch.Tensor | None = None) -> torch.Tensor:
        """Features (N, F, P, features width) to latents (N, R, D).

        Args:
            features: of all frames.
            num_frames: (N,) real frames of each video, the rest of F is padding; None means all are real.
        """
        frames, tokens = features.shape[1:3]
        if self.project is not None:
            features = self.project(features)
        mask = None
        if num_frames is None:
            encodings = self.encodings_of(frames)
        else:
            real = torch.arange(frames, device=features.device) < num_frames.unsqueeze(1)
            mask = torch.cat([real.repeat_interleave(tokens, 1), real.new_ones(len(real), len(self.latents))], 1)
            mask = mask[:, None, None]
            encodings = self._encodings_by_length(num_frames, frames)
        if encodings is not None:
            features = features + encodings.unsqueeze(-2)
        features = features.flatten(1, 2)
        latents = self.latents.expand(features.shape[0], -1, -1)
        for block in self.blocks:
            latents = block(features, latents, mask)
        return self.norm(latents)

    def encodings_of(self, frames: int) -> torch.Tensor | None:
        """(F, D) temporal encodings of a video of so many frames, None where there are none at all.

        Up to the number trained with they are the learned ones; beyond it they are interpolated linearly between the
        first and the last (paper, appendix: trained on 8 frames, evaluated on 30).
        """
        if self.frame_encodings is None or frames <= self.frame_encodings.shape[0]:
            return self.frame_encodings if self.frame_encodings is None else self.frame_encodings[:frames]
        learned = self.frame_encodings.T.unsqueeze(0)
        return interpolate(learned, size=frames, mode="linear", align_corners=True)[0].T

    def _encodings_by_length(self, num_frames: torch.Tensor, frames: int) -> torch.Tensor | None:
        """(N, F, D): each video's encodings are those of its own length."""
        if self.frame_encodings is None:
            return None
        rows = []
        for length in num_frames.tolist():
            encodings = self.encodings_of(length)
            assert encodings is not None
            rows.append(nn.functional.pad(encodings, (0, 0, 0, frames - length)))
        return torch.stack(rows)
