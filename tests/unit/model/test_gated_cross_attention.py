import pytest
import torch

from flamingo_ds.model.feed_forward import FeedForward, SwiGLU
from flamingo_ds.model.gated_cross_attention import GatedCrossAttentionBlock, MediaCrossAttention
from flamingo_ds.model.media_mask import media_view

WIDTH, MEDIA_WIDTH, IMAGES, LATENTS = 32, 24, 2, 3
MEDIA_IDS = torch.tensor([[0, 0, 1, 1, 2], [1, 2, 2, 2, 0]])


@pytest.fixture(params=[True, False], ids=["by image", "dense"])
def inputs(request):
    torch.manual_seed(0)
    hidden = torch.randn(2, 5, WIDTH, requires_grad=True)
    media = torch.randn(2, IMAGES, LATENTS, MEDIA_WIDTH, requires_grad=True)
    return hidden, media, media_view(MEDIA_IDS, IMAGES, LATENTS, by_image=request.param)


def test_both_forms_agree(inputs):
    """By image the same products are summed in another order: fp32 rounding of values of order 1."""
    hidden, media, _ = inputs
    results = []
    for by_image in (True, False):
        made = block()
        made(hidden, media, media_view(MEDIA_IDS, IMAGES, LATENTS, by_image=by_image)).square().sum().backward()
        results.append([hidden.grad.clone(), media.grad.clone(), *(p.grad for p in made.parameters())])
        hidden.grad = media.grad = None
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-5)
        assert one.abs().sum() > 0


@pytest.mark.parametrize("latents", [3, 40])
def test_attention_without_keys_and_values_is_the_same(latents):
    """With few tokens an image the matrices are multiplied in another order; both orders are checked for."""
    torch.manual_seed(0)
    results = []
    media = torch.randn(2, IMAGES, latents, MEDIA_WIDTH)
    for by_image in (True, False):
        attention, hidden, seen = block().attention, torch.randn(2, 5, WIDTH, generator=seeded()), media.clone()
        hidden.requires_grad_(True)
        seen.requires_grad_(True)
        skips = attention.to_keys_values.pays_to_skip(3, latents, heads=2)
        assert skips == (latents == 40)
        shapes = []
        attention.to_keys_values.register_forward_hook(lambda *call, to=shapes: to.append(call[2].shape[-1]))
        out = attention(hidden, seen, media_view(MEDIA_IDS, IMAGES, latents, by_image=by_image))
        out.square().sum().backward()
        assert shapes == [16 if skips and by_image else 32]
        results.append([out, hidden.grad, seen.grad, *(p.grad for p in attention.parameters())])
    for one, other in zip(*results, strict=True):
        # fp32 sums in another order: measured 2e-6 on gradients of order 1.
        assert torch.allclose(one, other, rtol=0, atol=1e-5)
        assert one.abs().sum() > 0


def test_projected_media_give_the_same(inputs):
    made, (hidden, media, view) = block(), inputs
    keys_values = made.attention.to_keys_values(media)
    # One product over all images or over those that are seen: fp32 sums in another order.
    assert torch.allclose(made(hidden, keys_values, view, True), made(hidden, media, view), rtol=0, atol=1e-6)


def test_without_media_only_the_feed_forward_acts(inputs):
    made, hidden = block(), inputs[0]
    alone = hidden + torch.tensor(0.5).tanh() * made.feed_forward(hidden)
    assert torch.equal(made(hidden, None, None), alone)


def test_swiglu_is_its_formula():
    torch.manual_seed(2)
    branch, hidden = SwiGLU(torch.nn.RMSNorm(8, eps=1e-5), 8, 12, "silu"), torch.randn(3, 8)
    normed = hidden / (hidden.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    gate = normed @ branch.gate.weight.T
    wanted = (gate * gate.sigmoid() * (normed @ branch.up.weight.T)) @ branch.down.weight.T
    assert torch.allclose(branch(hidden), wanted, rtol=0, atol=1e-6)  # fp32 rounding of values of order 1


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def block(gate: float = 0.5) -> GatedCrossAttentionBlock:
    torch.manual_seed(1)
    attention = MediaCrossAttention(torch.nn.LayerNorm(WIDTH), WIDTH, MEDIA_WIDTH, heads=2, head_width=8)
    feed_forward = FeedForward(torch.nn.LayerNorm(WIDTH), WIDTH, 2 * WIDTH, "relu2")
    made = GatedCrossAttentionBlock(attention, feed_forward, initial_gate=gate)
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
    attention, (hidden, media, _) = block().attention, inputs
    keys, values = attention.to_keys_values(media[0, 1]).chunk(2, -1)  # token 4 of sequence 0 sees image 2
    queries = attention.to_queries(attention.norm(hidden))
    heads = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        scores = (keys[:, part] @ queries[0, 4, part]) / 8**0.5
        heads.append(scores.softmax(0) @ values[:, part])
    wanted = attention.to_out(torch.cat(heads))
    # fp32: another order of summation over at most 32 products of order 1.
    assert torch.allclose(attention(*inputs)[0, 4], wanted, rtol=0, atol=1e-6)


def test_other_images_change_nothing(inputs):
    hidden, media, view = inputs
    changed = media.detach().clone()
    changed[0, 0] += 1.0
    before, after = block()(hidden, media, view), block()(hidden, changed, view)
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
