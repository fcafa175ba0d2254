"""One prompt's keys and values under many continuations at once.

cache     P P P P P P            computed once, never copied for longer than one block's attention
rows      a a <EOC>              each row sees P and itself
          b <EOC> .
          c c c
"""

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer


class SharedLayer(CacheLayerMixin):
    """Keys and values of one prompt (1, heads, L, width), read by a batch of continuations; it never grows.

    Args:
        prompt: a layer of the prompt's cache, sliding or not.
    """

    def __init__(self, prompt: DynamicLayer) -> None:
        super().__init__()
        self.prompt = prompt
        self.keys, self.values = prompt.keys, prompt.values
        self.is_sliding, self.is_initialized = prompt.is_sliding, True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """It holds a prompt from the first."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompt's with the new ones behind them, for this attention alone: (O, heads, L + l, width)."""
        return _behind(self.keys, key_states), _behind(self.values, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As the prompt's layer counts."""
        return self.prompt.get_mask_sizes(query_length)

    def get_seq_length(self) -> int:
        """Of the prompt."""
        return self.prompt.get_seq_length()

    def get_max_length(self) -> int:
        """As the prompt's layer says."""
        return self.prompt.get_max_length()


def can_share(cache: Any) -> bool:
    """Whether a cache is keys and values throughout; states of recurrent layers are not to be expanded."""
    return isinstance(cache, Cache) and all(isinstance(layer, DynamicLayer) for layer in cache.layers)


def share(cache: Cache) -> Cache:
    """A view of a prompt's cache for any number of continuations."""
    return Cache(layers=[SharedLayer(layer) for layer in cache.layers])  # type: ignore[arg-type]


def _behind(prompt: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
    if prompt is None:
        return new
    return torch.cat([prompt.expand(len(new), -1, -1, -1), new], dim=-2)
