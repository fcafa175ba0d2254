"""Splitting heads, and attention over them: the one place where the trained layers call SDPA."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

# On a CPU in bf16 the fused kernel is slower than plain products for so few keys (docs/log.md).
FEW_KEYS = 256


def multi_head_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None = None,
    query_norm: nn.Module | None = None,
    key_norm: nn.Module | None = None,
) -> torch.Tensor:
    """Scaled dot-product attention.

    Args:
        queries: (B, Lq, heads * head width).
        keys, values: (B, Lk, heads * head width).
        heads: number of heads.
        mask: (B, 1, Lq or 1, Lk) bool, True where a query may look; None means everywhere.
        query_norm, key_norm: over the head width, before the product.

    Returns:
        (B, Lq, heads * head width).
    """
    queries, keys, values = (tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (queries, keys, values))
    if query_norm is not None and key_norm is not None:
        queries, keys = query_norm(queries), key_norm(keys)
    with _backend(keys):
        return scaled_dot_product_attention(queries, keys, values, attn_mask=mask).transpose(1, 2).flatten(2)


def _backend(keys: torch.Tensor) -> AbstractContextManager[None]:
    """What torch chooses, but for :data:`FEW_KEYS`."""
    if keys.device.type == "cpu" and keys.dtype == torch.bfloat16 and keys.shape[-2] <= FEW_KEYS:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()
