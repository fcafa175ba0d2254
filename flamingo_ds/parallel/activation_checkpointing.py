"""Recompute activations in the backward pass instead of keeping them."""

from collections.abc import Iterable
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..model import FlamingoForConditionalGeneration
from ..model.decoder_blocks import decoder_blocks


def recompute_blocks(model: FlamingoForConditionalGeneration, every: int) -> None:
    """Make every ``every``-th LM block, gated block and resampler block forget its activations.

    Args:
        model: whole, so that the same blocks recompute in every layout: stages are cut out of it afterwards.
        every: 0 for none, 1 for all.
    """
    groups: tuple[Iterable[nn.Module], ...] = (
        decoder_blocks(model.language_model),
        model.gated_cross_attention.values(),
        model.resampler.blocks,
    )
    for blocks in groups:
        apply_activation_checkpointing(blocks, every)


def apply_activation_checkpointing(blocks: Iterable[nn.Module], every: int) -> int:
    """Make every ``every``-th block forget its activations; parameter names stay as they are.

    torch's non-reentrant checkpointing: it takes blocks whose input needs no gradient, as the first frozen LM block's
    does not, and it walks the graph once. A block's own ``forward`` is what is recomputed, so the gated block that a
    hook runs before an LM block is a block of its own here.

    Args:
        blocks: in the order of the forward pass.
        every: 0 for none, 1 for all.

    Returns:
        How many blocks recompute.
    """
    chosen = list(blocks)[every - 1 :: every] if every else []
    for block in chosen:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]
    return len(chosen)
