"""Which token sees which image (paper, section 2.3).

A token sees the last image before it and nothing else; before the first image it sees none. For the tokens
``a <image> b c <image> d`` of a sequence with T = 2 images::

                a  <image>  b  c  <image>  d
    media_ids   0     1     1  1     2     2

                     latents of image 1   latents of image 2
    a                     .   .   .            .   .   .
    <image>               x   x   x            .   .   .
    b                     x   x   x            .   .   .
    c                     x   x   x            .   .   .
    <image>               .   .   .            x   x   x
    d                     .   .   .            x   x   x
"""

import torch


def media_ids_from(input_ids: torch.Tensor, image_token_id: int) -> torch.Tensor:
    """For each token the 1-based index of the last image at or before it, 0 for none: (B, L) to (B, L)."""
    return (input_ids == image_token_id).cumsum(-1)


def media_mask(media_ids: torch.Tensor, num_media: int, latents_per_media: int) -> torch.Tensor:
    """The attention mask drawn above.

    Args:
        media_ids: (B, L), 1-based, 0 for none.
        num_media: T.
        latents_per_media: R.

    Returns:
        (B, L, T R) bool, True where the token may look.
    """
    owner = torch.arange(1, num_media + 1, device=media_ids.device).repeat_interleave(latents_per_media)
    return media_ids.unsqueeze(-1) == owner
