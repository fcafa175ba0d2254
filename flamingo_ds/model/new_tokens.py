"""Embedding and head rows of the tokens that the language model never had (``<image>`` and ``<EOC>``).

The LM's own matrices stay frozen bit for bit. The rows of the new tokens live beside them and train; for an export
they are merged into the matrices, after which this module's hooks and layers are gone.

Legend: V rows of the LM, n new tokens with ids first ... first + n - 1, first <= V. Where the LM's matrix is padded
past its tokenizer, first < V and the new rows stand in for padding rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


def splice(whole: torch.Tensor, new: torch.Tensor, first: int, dim: int) -> torch.Tensor:
    """``whole`` with ``new`` at first ... first + n - 1 along ``dim``, longer where that reaches past its end."""
    after = min(first + new.shape[dim], whole.shape[dim])
    head, tail = whole.narrow(dim, 0, first), whole.narrow(dim, after, whole.shape[dim] - after)
    return torch.cat([head, new, tail], dim)


def embed(
    language_model: PreTrainedModel, new_embedding: nn.Embedding | None, input_ids: torch.Tensor, first: int
) -> torch.Tensor:
    """Input embeddings, from the LM's matrix or from the new rows: ids (B, L) to (B, L, H)."""
    embedding = language_model.get_input_embeddings()
    if new_embedding is None:
        return embedding(input_ids)
    is_new = (input_ids >= first) & (input_ids < first + new_embedding.num_embeddings)
    known = embedding(input_ids.masked_fill(is_new, 0))
    new = new_embedding((input_ids - first).clamp(0, new_embedding.num_embeddings - 1))
    scale = getattr(embedding, "embed_scale", None)  # Gemma's embedding multiplies its rows, and so these as well
    if scale is not None:
        new = new * torch.as_tensor(scale, dtype=new.dtype, device=new.device)
    return torch.where(is_new.unsqueeze(-1), new, known)


@contextmanager
def new_token_logits(language_model: PreTrainedModel, new_head: nn.Linear | None, first: int) -> Iterator[None]:
    """While this is open, the LM's head also gives the new tokens' logits: (..., V) becomes (..., max(V, first + n)).

    A hook on the head and not a second pass, so whatever the LM does to its logits afterwards happens to all of them.
    """
    if new_head is None:
        yield
        return

    def hook(_: nn.Module, args: tuple[Any, ...], logits: torch.Tensor) -> torch.Tensor:
        return splice(logits, new_head(args[0]), first, dim=-1)

    handle = language_model.get_output_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def merge(language_model: PreTrainedModel, new_embedding: nn.Embedding, new_head: nn.Linear, first: int) -> None:
    """Write the new rows into the LM's own matrices, in place; tied matrices stay tied."""
    embedding: Any = language_model.get_input_embeddings()
    head: Any = language_model.get_output_embeddings()
    tied = head.weight is embedding.weight
    embedding.weight = _spliced(embedding.weight, new_embedding.weight, first)
    head.weight = embedding.weight if tied else _spliced(head.weight, new_head.weight, first)
    if head.bias is not None:
        # The new head rows have no bias; the rows they are merged into get a bias of 0.
        zeros = torch.zeros(new_head.out_features, dtype=head.bias.dtype, device=head.bias.device)
        head.bias = _spliced(head.bias, zeros, first)
    rows = embedding.weight.shape[0]
    embedding.num_embeddings = head.out_features = language_model.config.vocab_size = rows


def _spliced(old: nn.Parameter, new: torch.Tensor, first: int) -> nn.Parameter:
    return nn.Parameter(splice(old, new, first, dim=0), requires_grad=old.requires_grad)
