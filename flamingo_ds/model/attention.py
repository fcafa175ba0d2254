"""Splitting heads, and attention over them: the one place where the trained layers call SDPA."""

import torch
from torch.nn.functional import scaled_dot_product_attention


def multi_head_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scaled dot-product attention.

    Args:
        queries: (B, Lq, heads * head width).
        keys, values: (B, Lk, heads * head width).
        heads: number of heads.
        mask: (B, 1, Lq, Lk) bool, True where a query may look; None means everywhere.

    Returns:
        (B, Lq, heads * head width).
    """
    split = [tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (queries, keys, values)]
    return scaled_dot_product_attention(*split, attn_mask=mask).transpose(1, 2).flatten(2)
