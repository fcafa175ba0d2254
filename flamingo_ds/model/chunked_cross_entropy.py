"""Cross-entropy over a large vocabulary, without the logits of all tokens at once.

A batch of B L tokens has B L V logits, in fp32, and as many gradients: more than everything else of a small model. Here
the rows go through the head in chunks; each chunk's gradient with respect to the hidden states is computed at once,
so its logits are gone before the next one's come. Nothing is computed twice. ``linear_cross_entropy`` of newer torch
does the same for one weight matrix, but the new tokens' rows are another one, which trains; concatenating the two
would copy a frozen matrix of gigabytes at each step.

Legend: N rows that predict something, H width, V rows of the LM's head, n new tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from .decoder_blocks import BLOCK_PATHS

IGNORED = -100
CHUNK = 256  # rows; 64 were slower, and more only take memory (docs/log.md)


def applies_to(text_config: Any) -> bool:
    """Whether the LM's logits are just what its head gives: known families, and no cap on top."""
    return text_config.model_type in BLOCK_PATHS and getattr(text_config, "final_logit_softcapping", None) is None


@contextmanager
def summed_loss_instead_of_logits(
    head: nn.Linear, new_head: nn.Linear | None, first: int, labels: torch.Tensor
) -> Iterator[None]:
    """While this is open, the LM's head gives the summed cross-entropy of its logits, shape (1, 1, 1).

    In the head's own forward, so that whatever gathers the head's weights around it (ZeRO-3) does so once.

    Args:
        head: of the LM.
        new_head: rows of the new tokens.
        first: id of the first new token.
        labels: (B, L), not shifted, -100 where nothing is predicted.
    """
    targets = labels[:, 1:]
    predicts = targets != IGNORED

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden[:, :-1][predicts]
        new_logits = None if new_head is None else new_head(rows)
        loss = chunked_cross_entropy(rows, head.weight, head.bias, new_logits, first, targets[predicts])
        return loss.view(1, 1, 1)

    usual = head.__dict__.get("forward")
    head.forward = forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        if usual is None:
            del head.forward
        else:
            head.forward = usual  # type: ignore[method-assign]


def chunked_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    new_logits: torch.Tensor | None,
    first: int,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Summed cross-entropy in fp32.

    Args:
        hidden: (N, H).
        weight, bias: (V, H) and (V,) of the head.
        new_logits: (N, n), which stand at ``first`` ... ``first + n - 1`` in place of the head's own.
        first: id of the first new token, at most V.
        targets: (N,) ids.

    Returns:
        () loss.
    """
    if new_logits is None:
        new_logits = hidden.new_zeros(len(hidden), 0)
    return _ChunkedCrossEntropy.apply(hidden, weight, bias, new_logits, first, targets, torch.is_grad_enabled())


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        new_logits: torch.Tensor,
        first: int,
        targets: torch.Tensor,
        grad_enabled: bool,
    ) -> torch.Tensor:
        wanted = [grad_enabled and needed for needed in ctx.needs_input_grad[:4]]
        like = (hidden, weight, bias, new_logits)
        # A trained head's gradient is a sum over chunks: in fp32, or each chunk would round it once more.
        dtypes = (hidden.dtype, torch.float32, torch.float32, new_logits.dtype)
        grads = [
            torch.zeros_like(tensor, dtype=dtype) if need and tensor is not None else None
            for tensor, need, dtype in zip(like, wanted, dtypes, strict=True)
        ]
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), CHUNK):
            rows = slice(start, start + CHUNK)
            known = linear(hidden[rows], weight, bias).float()
            new = new_logits[rows].float()
            total += _losses_to_gradients(known, new, first, targets[rows])
            if any(wanted):
                _accumulate(grads, known.to(hidden.dtype), new, hidden[rows], weight, rows)
            del known  # or two chunks would be there at once
        ctx.grads = [
            None if grad is None else grad.to(tensor.dtype)  # type: ignore[union-attr]
            for grad, tensor in zip(grads, like, strict=True)
        ]
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> Any:  # type: ignore[override]
        scaled = [None if grad is None else grad * grad_output.to(grad.dtype) for grad in ctx.grads]
        return (*scaled, None, None, None)


def _losses_to_gradients(known: torch.Tensor, new: torch.Tensor, first: int, targets: torch.Tensor) -> torch.Tensor:
    """Summed loss of a chunk; ``known`` (rows, V) and ``new`` (rows, n) become the loss's gradients, in place."""
    count = new.shape[1]
    known[:, first : first + count] = -torch.inf  # rows of the LM that new tokens stand in for
    is_new = (targets >= first) & (targets < first + count)
    at_known = targets.masked_fill(is_new, 0).unsqueeze(1)
    wanted, top = known.gather(1, at_known), known.amax(-1, keepdim=True)
    if count:
        at_new = (targets - first).clamp(0, count - 1).unsqueeze(1)
        wanted = torch.where(is_new.unsqueeze(1), new.gather(1, at_new), wanted)
        top = torch.maximum(top, new.amax(-1, keepdim=True))
    # In place throughout: one copy of a chunk's logits is what there is.
    total = known.sub_(top).exp_().sum(-1, keepdim=True) + new.sub_(top).exp_().sum(-1, keepdim=True)
    known.div_(total).scatter_add_(1, at_known, -(~is_new).unsqueeze(1).to(known.dtype))
    new.div_(total)
    if count:
        new.scatter_add_(1, at_new, -is_new.unsqueeze(1).to(new.dtype))
    return (total.log() + top - wanted).sum()


def _accumulate(
    grads: list[torch.Tensor | None],
    known: torch.Tensor,
    new: torch.Tensor,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    rows: slice,
) -> None:
    """Add one chunk's part to the gradients of hidden states, weight, bias and new logits."""
    of_hidden, of_weight, of_bias, of_new = grads
    if of_hidden is not None:
        of_hidden[rows] = known @ weight
    if of_weight is not None:
        of_weight += known.T @ hidden
    if of_bias is not None:
        of_bias += known.float().sum(0)
    if of_new is not None:
        of_new[rows] = new
