"""That recomputing a Flamingo's blocks changes no bit; its layers are hooked, frozen and fed by keyword."""

import pytest
import torch

from flamingo_ds.model.decoder_blocks import decoder_blocks
from flamingo_ds.parallel.activation_checkpointing import apply_activation_checkpointing
from tests.tiny import FAMILIES, tiny_batch, tiny_flamingo, tiny_text_config


def step(family: str, every: int):
    """Loss, gradients and how often the LM's second block ran."""
    model = tiny_flamingo(tiny_text_config(family)).train()
    calls = []
    blocks = decoder_blocks(model.language_model)
    # Counted inside the block: hooks stay outside of what is recomputed.
    inner = next(module for module in blocks[1].modules() if not list(module.children()) and list(module.parameters()))
    inner.register_forward_hook(lambda *_: calls.append(1))
    names = [name for name, _ in model.named_parameters()]
    for group in (blocks, model.gated_cross_attention.values(), model.resampler.blocks):
        apply_activation_checkpointing(group, every)
    assert [name for name, _ in model.named_parameters()] == names
    loss = model(**tiny_batch().tensors()).loss
    loss.backward()
    return loss, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}, len(calls)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("every", [1, 2])
def test_loss_and_gradients_are_bit_equal(family, every):
    loss, gradients, ran = step(family, every=0)
    again_loss, again, ran_again = step(family, every)
    assert torch.equal(loss, again_loss)
    assert gradients.keys() == again.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, again[name]), name
        # Gates, norms, queries: nothing of a gradient that is zero anyway would show a fault.
        assert gradient.abs().sum() > 0 or name == "resampler.frame_encodings", name
    assert ran_again == 2 * ran


def test_every_nth_block():
    blocks = [torch.nn.Linear(2, 2) for _ in range(5)]
    plain = [block.forward for block in blocks]
    assert apply_activation_checkpointing(blocks, 2) == 2
    assert [block.forward != before for block, before in zip(blocks, plain, strict=True)] == [0, 1, 0, 1, 0]
    assert apply_activation_checkpointing(blocks, 0) == 0
