"""What must hold around every family of language model."""

import pytest
import torch

from flamingo_ds.model.decoder_blocks import BLOCK_PATHS, decoder_blocks
from flamingo_ds.model.tanh_gate import TanhGate
from tests.tiny import FAMILIES, PAD_ID, set_gates, tiny_batch, tiny_flamingo, tiny_llama, tiny_text_config

CASES = [*[(family, {}) for family in sorted(FAMILIES)], ("llama", {"tie_word_embeddings": True})]
CASES += [("opt", {"tie_word_embeddings": False}), ("gpt_neox", {"tie_word_embeddings": True})]


def case_name(case):
    return case[0] + "".join(f"-{'' if value else 'un'}tied" for value in case[1].values())


@pytest.fixture(params=CASES, ids=case_name)
def model(request):
    family, changes = request.param
    return tiny_flamingo(tiny_text_config(family, **changes))


def test_every_listed_family_is_tried():
    assert BLOCK_PATHS.keys() == FAMILIES.keys()


@torch.no_grad()
def test_closed_gates_give_the_bare_lm_s_logits(model):
    """Exactly: tanh(0) is 0, and adding 0 rounds nothing."""
    batch = tiny_batch()
    text = batch.input_ids.remainder(90)  # the bare LM has no new tokens, so no text of this test has any
    inputs = {"input_ids": text, "attention_mask": batch.attention_mask}
    media = {"pixel_values": batch.pixel_values, "num_images": batch.num_images, "media_ids": batch.media_ids}
    bare = model.language_model(**inputs, use_cache=False).logits
    opened = model(**inputs, **media).logits
    set_gates(model, 0.0)
    closed = model(**inputs, **media).logits
    known = bare.shape[-1]
    assert torch.equal(closed[..., :known], bare)
    # So that the equality above cannot come from gated blocks that never ran.
    seeing = batch.media_ids > 0
    assert ((opened[..., :known] - bare).abs().amax(-1)[seeing & (batch.attention_mask > 0)] > 0.1).all()


@torch.no_grad()
def test_an_image_changes_no_logit_before_its_token(model):
    batch = tiny_batch()
    inputs = batch.tensors()
    for row, slot in [(0, 0), (0, 1), (1, 0)]:
        pixels = batch.pixel_values.clone()
        pixels[row, slot] += 1.0
        before, after = model(**inputs).logits, model(**inputs | {"pixel_values": pixels}).logits
        start = int((batch.media_ids[row] == slot + 1).nonzero()[0])
        assert torch.equal(before[row, :start], after[row, :start])
        assert torch.equal(before[1 - row], after[1 - row])
        assert not torch.equal(before[row, start], after[row, start])


@torch.no_grad()
def test_a_sequence_alone_is_as_in_a_batch(model):
    """Whatever its neighbours' length and number of images: with two, with one, and with none at all."""
    batch = tiny_batch()
    ids = torch.cat([batch.input_ids, torch.tensor([[5, 6, 7, 8, 9, PAD_ID, PAD_ID, PAD_ID, PAD_ID]])])
    mask, counts = (ids != PAD_ID).long(), torch.tensor([2, 1, 0])
    pixels = torch.cat([batch.pixel_values, torch.zeros_like(batch.pixel_values[:1])])
    together = model(ids, mask, pixels, counts).logits
    for row, count in enumerate(counts.tolist()):
        length = int(mask[row].sum())
        images = {"pixel_values": pixels[row : row + 1, :count]} if count else {}
        alone = model(ids[row : row + 1, :length], **images).logits
        # Products of other shapes: fp32 sums in another order, logits of order 5.
        assert torch.allclose(together[row : row + 1, :length], alone, rtol=0, atol=1e-4)


@torch.no_grad()
def test_bf16_with_gates_in_fp32(model):
    """As a trainer of mixed precision may keep them: the residual stream stays bf16."""
    batch = tiny_batch()
    whole = model(**batch.tensors()).logits
    model.to(torch.bfloat16)
    half = model(**batch.to("cpu", torch.bfloat16).tensors()).logits
    for module in model.modules():
        if isinstance(module, TanhGate):
            module.gate.data = module.gate.data.float()
    mixed = model(**batch.to("cpu", torch.bfloat16).tensors()).logits
    assert mixed.dtype == torch.bfloat16
    # tanh(0.5) rounded once or from a rounded 0.5, which bf16 holds exactly: the same product.
    assert torch.equal(mixed, half)
    # bf16 has 8 bits: a few per cent of logits of order 5 after three blocks.
    assert (mixed - whole).abs().mean() < 0.25


def test_gated_blocks_stand_where_the_configuration_says():
    model = tiny_flamingo(tiny_text_config(num_hidden_layers=5), cross_attention_every=2, cross_attention_offset=1)
    assert list(model.gated_cross_attention) == ["1", "3"]
    order = []
    for index, block in enumerate(decoder_blocks(model.language_model)):
        block.register_forward_hook(lambda *_, index=index: order.append(index))
    for index, block in model.gated_cross_attention.items():
        block.register_forward_hook(lambda *_, index=index: order.append(f"gated {index}"))
    model(**tiny_batch().tensors())
    assert order == [0, "gated 1", 1, 2, "gated 3", 3, 4]


def test_no_hook_stays_behind_even_after_an_error():
    model = tiny_flamingo()
    blocks = decoder_blocks(model.language_model)
    inputs = tiny_batch().tensors()
    model(**inputs)
    with pytest.raises((RuntimeError, IndexError)):
        model(**inputs | {"media_ids": torch.ones(2, 30, dtype=torch.long)})  # fails within the first gated block
    hooked = [*blocks, model.language_model.get_output_embeddings()]
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in hooked)


def test_an_unknown_family_is_searched_for_its_blocks():
    lm = tiny_llama()
    lm.config.model_type = "unheard_of"
    assert decoder_blocks(lm) is lm.model.layers
    lm.twin = torch.nn.ModuleList(torch.nn.Identity() for _ in lm.model.layers)
    with pytest.raises(ValueError, match=r"'unheard_of' is unknown.*\['model.layers', 'twin'\].*BLOCK_PATHS"):
        decoder_blocks(lm)
