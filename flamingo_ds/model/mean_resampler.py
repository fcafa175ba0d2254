"""The mean of an image's features in the resampler's place: an ablation (the paper's have an MLP or a transformer).

Legend: N images or videos, F frames each, P vision tokens a frame, D width of the latents, R latents.
"""

import torch
from torch import nn


class MeanResampler(nn.Module):
    """R latents an image or video, made by one matrix of the mean over all its tokens, each with a norm.

    Nothing is left of where or in which frame something was.

    Args:
        features_width: of the vision tokens.
        width: D.
        latents: R.
    """

    def __init__(self, features_width: int, width: int, latents: int) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(features_width, latents * width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList()  # nothing to recompute, as a Perceiver's blocks would be

    def forward(self, features: torch.Tensor, num_frames: torch.Tensor | None = None) -> torch.Tensor:
        """Features (N, F, P, features width) to latents (N, R, D).

        Args:
            features: of all frames.
            num_frames: (N,) real frames of each video, the rest of F is padding; None means all are real.
        """
        frames = features.mean(2)
        if num_frames is None:
            mean = frames.mean(1)
        else:
            real = torch.arange(frames.shape[1], device=frames.device) < num_frames.unsqueeze(1)
            mean = frames.masked_fill(~real.unsqueeze(-1), 0.0).sum(1) / num_frames.unsqueeze(1)
        return self.norm(self.project(mean.to(features.dtype)).unflatten(-1, (-1, self.width)))
