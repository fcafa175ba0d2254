import pytest
import torch

from flamingo_ds.model.gated_cross_attention import GatedCrossAttentionBlock, MediaCrossAttention
from flamingo_ds.model.media_mask import media_mask

WIDTH, MEDIA_WIDTH, IMAGES, LATENTS = 32, 24, 2, 3
MEDIA_IDS = torch.tensor([[0, 0, 1, 1, 2], [1, 2, 2, 2, 0]])


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    hidden = torch.randn(2, 5, WIDTH, requires_grad=True)
    media = torch.randn(2, IMAGES * LATENTS, MEDIA_WIDTH, requires_grad=True)
    return hidden, media, media_mask(MEDIA_IDS, IMAGES, LATENTS)


def block(gate: float = 0.5) -> GatedCrossAttentionBlock:
    torch.manual_seed(1)
    made = GatedCrossAttentionBlock(WIDTH, MEDIA_WIDTH, heads=2, head_width=8, multiplier=2, initial_gate=gate)
    torch.nn.init.constant_(made.attention_gate.gate, gate)
    torch.nn.init.constant_(made.feed_forward_gate.gate, gate)
    return made


def test_attention_gives_exactly_zero_to_tokens_without_an_image(inputs):
    attended = block().attention(*inputs)
    sees = MEDIA_IDS > 0
    assert torch.equal(attended[~sees], torch.zeros(3, WIDTH))
    assert (attended[sees].abs().amax(-1) > 0).all()


def test_feed_forward_acts_on_tokens_without_an_image(inputs):
    made, (hidden, _, _) = block(), inputs
    alone = hidden + torch.tensor(0.5).tanh() * made.feed_forward(hidden)
    out = made(*inputs)
    blind = MEDIA_IDS == 0
    # The same sums in another order: fp32 rounding of values of order 1.
    assert torch.allclose(out[blind], alone[blind], rtol=0, atol=1e-6)
    assert not torch.allclose(out[blind], hidden[blind], rtol=0, atol=1e-3)


def test_attention_is_the_paper_s_formula(inputs):
    """Against softmax(q k / sqrt(width)) v written out for one token and one head at a time."""
    attention, (hidden, media, mask) = block().attention, inputs
    keys, values = attention.to_keys_values(media).chunk(2, -1)
    queries = attention.to_queries(attention.norm(hidden))
    heads = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        seen = mask[0, 4]
        scores = (keys[0, seen, part] @ queries[0, 4, part]) / 8**0.5
        heads.append(scores.softmax(0) @ values[0, seen, part])
    wanted = attention.to_out(torch.cat(heads))
    # fp32: another order of summation over at most 32 products of order 1.
    assert torch.allclose(attention(*inputs)[0, 4], wanted, rtol=0, atol=1e-6)


def test_other_images_change_nothing(inputs):
    hidden, media, mask = inputs
    changed = media.detach().clone()
    changed[0, :LATENTS] += 1.0
    before, after = block()(hidden, media, mask), block()(hidden, changed, mask)
    same = MEDIA_IDS[0] != 1
    assert torch.equal(before[0, same], after[0, same])
    assert not torch.equal(before[0, ~same], after[0, ~same])
    assert torch.equal(before[1], after[1])


def test_gates_at_zero_leave_the_input_as_it_was(inputs):
    assert torch.equal(block(gate=0.0)(*inputs), inputs[0])


def test_gradients_are_finite_and_pass_by_what_is_not_seen(inputs):
    """A softmax over nothing would give NaN here, in the backward pass even where the forward drops it."""
    hidden, media, mask = inputs
    attention: MediaCrossAttention = block().attention
    attention(hidden, media, mask).square().sum().backward()
    assert hidden.grad.isfinite().all()
    assert torch.equal(hidden.grad[MEDIA_IDS == 0], torch.zeros(3, WIDTH))
    assert media.grad.isfinite().all()
    assert (media.grad.abs().amax(-1) > 0).all()
