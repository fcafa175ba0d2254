"""The formulas against torch's own counter, on parts of small real models."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flamingo_ds.model import FlamingoForConditionalGeneration
from flamingo_ds.model.flops import PartFlops, count_flops, total_flops
from flamingo_ds.model.freeze import FreezeRow, apply_freeze_table
from tests.tiny import IMAGE_ID, IMAGE_SIZE, tiny_config, tiny_flamingo, tiny_siglip_config, tiny_text_config

L, T = 24, 4


def counted(function) -> int:
    # With plain products in attention: the fused kernel of a CPU is not in torch's table.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def parts_of(parts, start) -> dict[str, PartFlops]:
    return {name: part for name, part in parts.items() if name.startswith(start)}


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gpt_neox", "opt", "mpt"])
def test_language_model_forward(family):
    model = tiny_flamingo(tiny_text_config(family))
    parts = count_flops(model, L)
    wanted = counted(lambda: model.language_model(torch.ones(1, L, dtype=torch.long), use_cache=False))
    known_words = parts["head"].forward - 2 * model.new_token_head.weight.numel()
    formula = L * (sum(part.forward for part in parts_of(parts, "lm/").values()) + known_words)
    # Rotary positions are a product too where they are computed as one: below a thousandth even of a tiny model.
    assert formula == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize(
    ("vision", "class_token"),
    [({}, False), ({}, True), ({"vision_config": tiny_siglip_config()}, False)],
    ids=["clip", "clip with its class token", "siglip"],
)
def test_vision_and_resampler_forward(vision, class_token):
    model = tiny_flamingo(**vision, vision_class_token=class_token)
    if vision:
        model.vision_model.head, model.vision_model.use_head = None, False
    parts = count_flops(model, L, frames=3)
    pixels = torch.randn(3, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert parts["vision"].forward == counted(lambda: model.vision_model(pixels))
    features = torch.randn(1, 3, 5 if class_token else 4, 32)
    assert parts["resampler"].forward == counted(lambda: model.resampler(features))


def test_a_mean_in_the_resampler_s_place():
    model = tiny_flamingo(resampler_kind="mean")
    features = torch.randn(1, 1, 4, 32)
    part = count_flops(model, L)["resampler"]
    assert part.forward == counted(lambda: model.resampler(features))
    assert part.backward == part.forward  # of the weights alone: the vision encoder is frozen
    whole = counted(lambda: model.resampler(features).sum().backward())
    assert whole == part.forward + part.backward


def test_a_convolutional_network_and_its_projection():
    with torch.device("meta"):
        model = FlamingoForConditionalGeneration(nfnet())
    parts = count_flops(model, L, image_size=64)
    assert parts["vision"].forward == counted(lambda: model.vision_model(torch.zeros(1, 3, 64, 64, device="meta")))
    assert parts["resampler"].forward == counted(lambda: model.resampler(torch.zeros(1, 1, 4, 192, device="meta")))
    with pytest.raises(ValueError, match="image_size is None; expected a number, as test_nfnet names none"):
        count_flops(model, L)


def nfnet():
    timm = {"model_type": "timm_wrapper", "architecture": "test_nfnet", "do_pooling": False}
    return tiny_config(vision_config=timm, vision_width=192, vision_features="grid", resampler_width=32)


@pytest.mark.parametrize("style", ["paper", "openflamingo", "idefics"])
def test_a_whole_step_frozen_as_in_the_paper(style):
    """Forward and backward through everything: four images of six tokens each, all of them seen."""
    model = tiny_flamingo(style=style, resampler_latents=3).train()
    ids = torch.full((1, L), 7)
    ids[0, :: L // T] = IMAGE_ID
    pixels = torch.randn(1, T, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
    total = total_flops(count_flops(model, L), L, T)
    forward = counted(lambda: model(ids, pixel_values=pixels, labels=ids, return_logits=True))
    both = counted(lambda: model(ids, pixel_values=pixels, labels=ids, return_logits=True).loss.backward())
    assert total.forward == pytest.approx(forward, rel=2e-3)
    # Attention without fused kernels forms its scores once: 2 times its forward instead of 2.5.
    assert total.backward == pytest.approx(both - forward, rel=0.03)


def test_what_trains_decides_the_backward_pass():
    def backward(rows, **changes):
        model = tiny_flamingo(**changes)
        apply_freeze_table(model, [FreezeRow("*", False), *(FreezeRow(row, True) for row in rows)])
        return {name: part.backward for name, part in count_flops(model, L).items()}

    everything = backward(["*"])
    forward = {name: part.forward for name, part in count_flops(tiny_flamingo(), L).items()}
    assert everything["vision"] == 2 * forward["vision"]
    assert everything["head"] == 2 * forward["head"]
    gated = backward(["gated_cross_attention.1.*"])
    assert gated["vision"] == gated["resampler"] == gated["lm/0"] == gated["gated/0"] == 0
    assert 0 < gated["lm/1"] < everything["lm/1"]
    assert gated["gated/1"] == everything["gated/1"]
    assert gated["head"] == forward["head"]
    assert backward(["new_token_*"])["lm/0"] == gated["lm/1"]


def test_a_step_is_tokens_and_images():
    parts = {"a": PartFlops("token", 2, 3), "b": PartFlops("image", 5, 7)}
    assert total_flops(parts, tokens=10, images=4) == PartFlops("sequence", 40, 58)
