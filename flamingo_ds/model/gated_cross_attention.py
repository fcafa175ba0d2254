"""The gated cross-attention block that stands before a frozen LM block (paper, section 2.2 and figure 4).

Legend: B sequences, L tokens, H LM width, T images a sequence, R latents an image, D vision width, G images that are
seen, Q tokens of the image that most tokens see, I heads times head width.
"""

import torch
from torch import nn

from .attention import multi_head_attention
from .feed_forward import FeedForward, SwiGLU
from .media_mask import MediaView
from .tanh_gate import TanhGate


class KeyValueProjection(nn.Linear):
    """Media to keys and values, one matrix [keys; values]; and attention without making them.

    Few tokens a image, as behind a caption, need not R keys of every image: ``q (W m)`` is ``(q W) m``, so the queries
    can go through the matrix instead, and what attention gathers of the media goes through the values' half. Both ways
    are the same sums in another order. Attention stands here, because layouts that shard weights gather a module's own
    around its ``forward`` and nowhere else.
    """

    def forward(self, media: torch.Tensor, queries: torch.Tensor | None = None, heads: int = 1) -> torch.Tensor:
        """Media (..., D) to (..., 2 I); or with queries (G, Q, I) of media (G, R, D), attention's result (G, Q, I)."""
        if queries is None:
            return super().forward(media)
        group, length = queries.shape[:2]
        to_keys, to_values = self.weight.view(2, heads, -1, self.in_features)
        split = queries.flatten(0, 1).unflatten(-1, (heads, -1)).transpose(0, 1)  # (heads, G Q, I / heads)
        asked = torch.bmm(split, to_keys).unflatten(1, (group, length)).transpose(0, 1).flatten(1, 2)
        scores = torch.bmm(asked, media.transpose(1, 2)) * split.shape[-1] ** -0.5  # (G, heads Q, R)
        gathered = torch.bmm(scores.softmax(-1, dtype=torch.float32).to(media.dtype), media)
        gathered = gathered.unflatten(1, (heads, length)).transpose(0, 1).flatten(1, 2)  # (heads, G Q, D)
        return torch.bmm(gathered, to_values.transpose(1, 2)).transpose(0, 1).reshape(queries.shape)

    def pays_to_skip(self, tokens: int, latents: int, heads: int) -> bool:
        """Whether Q tokens an image cost fewer multiplications without keys and values (both sides over 2 D)."""
        inner = self.out_features // 2
        return tokens * (inner + heads * latents) < latents * inner


class MediaCrossAttention(nn.Module):
    """Text tokens look at the latents that the media view lets them see.

    Args:
        norm: over H.
        width: H.
        media_width: D.
        heads, head_width: of the attention.
        query_norm, key_norm: over the head width, or None.
    """

    def __init__(
        self,
        norm: nn.Module,
        width: int,
        media_width: int,
        heads: int,
        head_width: int,
        query_norm: nn.Module | None = None,
        key_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm
        self.to_queries = nn.Linear(width, heads * head_width, bias=False)
        self.to_keys_values = KeyValueProjection(media_width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)
        self.query_norm = query_norm
        self.key_norm = key_norm

    def forward(
        self, hidden: torch.Tensor, media: torch.Tensor, view: MediaView, projected: bool = False
    ) -> torch.Tensor:
        """Attention's branch, 0 for tokens that see nothing.

        Args:
            hidden: (B, L, H).
            media: (B, T, R, D) latents, or (B, T, R, 2 I) what ``to_keys_values`` made of them.
            view: which of them each token sees.
            projected: whether ``media`` is keys and values already.

        Returns:
            (B, L, H).
        """
        queries = self.to_queries(self.norm(hidden))
        groups = view.by_image
        if groups is None:
            attended = self._attend(queries, media.flatten(1, 2), view.mask, projected).flatten(0, 1)
        else:
            media = media.flatten(0, 1).index_select(0, groups.images)
            queries = queries.flatten(0, 1).index_select(0, groups.tokens.flatten()).unflatten(0, groups.tokens.shape)
            attended = self._attend(queries, media, None, projected).flatten(0, 1).index_select(0, groups.results)
        return self.to_out(attended.masked_fill(~view.sees, 0.0)).view_as(hidden)

    def _attend(
        self, queries: torch.Tensor, media: torch.Tensor, mask: torch.Tensor | None, projected: bool
    ) -> torch.Tensor:
        """Queries (G, Q, I) over media (G, R, D), or (G, R, 2 I) where they are projected, to (G, Q, I)."""
        project = self.to_keys_values
        plain = mask is None and not projected and self.key_norm is None
        if plain and project.pays_to_skip(queries.shape[1], media.shape[1], self.heads):
            return project(media, queries, self.heads)
        keys, values = (media if projected else project(media)).chunk(2, dim=-1)
        return multi_head_attention(queries, keys, values, self.heads, mask, self.query_norm, self.key_norm)


class GatedCrossAttentionBlock(nn.Module):
    """``y = x + tanh(a) attention(x, media)``, then ``y + tanh(b) feed_forward(y)``; a = b = 0 leaves the LM as it was.

    The feed-forward also acts on tokens that see no image.

    Args:
        attention: over the media.
        feed_forward: with its own norm.
        initial_gate: a and b at the start; None: no gates, both branches are added as they are (an ablation of the
            paper), so that the LM is disturbed from the first step.
    """

    def __init__(
        self, attention: MediaCrossAttention, feed_forward: FeedForward | SwiGLU, initial_gate: float | None
    ) -> None:
        super().__init__()
        self.attention = attention
        self.attention_gate = nn.Identity() if initial_gate is None else TanhGate(initial_gate)
        self.feed_forward = feed_forward
        self.feed_forward_gate = nn.Identity() if initial_gate is None else TanhGate(initial_gate)

    def forward(
        self,
        hidden: torch.Tensor,
        media: torch.Tensor | None,
        view: MediaView | None,
        projected: bool = False,
    ) -> torch.Tensor:
        """As :meth:`MediaCrossAttention.forward`, with the residuals; without media only the feed-forward acts."""
        if media is not None and view is not None:
            hidden = hidden + self.attention_gate(self.attention(hidden, media, view, projected))
        return hidden + self.feed_forward_gate(self.feed_forward(hidden))
