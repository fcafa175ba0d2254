"""The mean of an image's features in the resampler's place: an ablation (the paper's have an MLP or a transformer).

Legend: N images or videos, F frames each, P vision tokens a frame, D width of the latents.
"""

import torch
from torch import nn


class MeanResampler(nn.Module):
    """One latent an image or video: the mean over all its tokens, through one matrix and a norm.

    Nothing is left of where or in which frame something was.

    Args:
        features_width: of the vision tokens.
        width: D, of the latent.
    """

    def __init__(self, features_width: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(features_width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList()  # nothing to recompute, as a Perceiver's blocks would be

    def forward(self, features: torch.Tensor, num_frames: torch.Tensor | None = None) -> torch.Tensor:
        """Features (N, F, P, features width) to one latent (N, 1, D).

        Args:
            features: of all frames.
            num_frames: (N,) real frames of each video, the rest of F is padding; None means all are real.
        """
        frames = features.mean(2)
        if num_frames is None:
            mean = frames.mean(1, keepdim=True)
        else:
            real = torch.arange(frames.shape[1], device=frames.device) < num_frames.unsqueeze(1)
            mean = frames.masked_fill(~real.unsqueeze(-1), 0.0).sum(1, keepdim=True) / num_frames.view(-1, 1, 1)
        return self.norm(self.project(mean.to(features.dtype)))
