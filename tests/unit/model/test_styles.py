"""The three styles of trained layers, and the switches beside them."""

import pytest
import torch

from flamingo_ds.model import FlamingoForConditionalGeneration
from flamingo_ds.model.styles import STYLES
from tests.tiny import tiny_batch, tiny_config, tiny_flamingo, tiny_text_config

SWITCHES = [
    {},
    {"style": "openflamingo", "max_frames": 0},
    {"style": "idefics", "max_frames": 0},
    {"style": "idefics", "cross_attention_query_key_norm": True, "resampler_query_key_norm": True},
    {"media_rule": "all_previous"},
    {"media_rule": "next"},
]


@pytest.fixture(params=SWITCHES, ids=str)
def model(request):
    return tiny_flamingo(**request.param)


def test_every_switch_has_a_model_whose_every_parameter_trains(model):
    model.train()
    model(**tiny_batch().tensors()).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name != "resampler.frame_encodings":
            assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = FlamingoForConditionalGeneration.from_pretrained(tmp_path).eval()
    inputs = tiny_batch().tensors()
    assert torch.equal(model(**inputs).logits, again(**inputs).logits)


def test_shapes_are_those_of_the_style():
    blocks = {style: tiny_flamingo(style=style).gated_cross_attention["0"] for style in STYLES}
    heads = {style: block.attention.to_queries.weight.shape for style, block in blocks.items()}
    assert heads == {"paper": (32, 32), "openflamingo": (512, 32), "idefics": (32, 32)}
    hidden = {style: block.feed_forward.up.weight.shape[0] for style, block in blocks.items()}
    assert hidden == {"paper": 128, "openflamingo": 128, "idefics": 64}  # IDEFICS: the LM's own width
    norms = {style: type(block.attention.norm) for style, block in blocks.items()}
    assert norms == {"paper": torch.nn.LayerNorm, "openflamingo": torch.nn.LayerNorm, "idefics": torch.nn.RMSNorm}


def test_activations_are_those_of_the_style():
    x = torch.tensor([-1.0, 0.5, 2.0])
    gelu = 0.5 * x * (1 + torch.erf(x / 2**0.5))
    wanted = {"paper": torch.tensor([0.0, 0.25, 4.0]), "openflamingo": gelu}
    for style, values in wanted.items():
        model = tiny_flamingo(style=style)
        for feed_forward in (model.gated_cross_attention["0"].feed_forward, model.resampler.blocks[0].feed_forward):
            assert torch.allclose(feed_forward.activation(x), values, rtol=0, atol=1e-6)  # fp32 rounding
    idefics = tiny_flamingo(style="idefics")
    assert torch.equal(idefics.resampler.blocks[0].feed_forward.activation(x), x.relu())
    assert torch.equal(idefics.gated_cross_attention["0"].feed_forward.activation(x), torch.nn.functional.silu(x))


def test_idefics_norms_with_the_language_model_s_epsilon():
    model = tiny_flamingo(tiny_text_config(rms_norm_eps=0.01), style="idefics")
    assert model.gated_cross_attention["0"].attention.norm.eps == 0.01


@torch.no_grad()
@pytest.mark.parametrize("style", STYLES)
def test_query_and_key_norm_make_scale_not_matter(style):
    if style != "idefics":
        with pytest.raises(ValueError, match=f"the {style} style has none"):
            tiny_config(style=style, cross_attention_query_key_norm=True)
        return
    attention = tiny_flamingo(style=style, cross_attention_query_key_norm=True).gated_cross_attention["0"].attention
    before = attention.key_norm(torch.ones(2, 8))
    assert torch.allclose(before, attention.key_norm(100 * torch.ones(2, 8)), rtol=0, atol=1e-5)  # the epsilon's part


@torch.no_grad()
def test_the_ablation_sees_all_images_before_and_none_behind():
    model, batch = tiny_flamingo(media_rule="all_previous"), tiny_batch()
    inputs = batch.tensors()
    before = model(**inputs).logits
    pixels = batch.pixel_values.clone()
    pixels[0, 0] += 1.0  # the first of two images of sequence 0, whose tokens start at 1 and 5
    after = model(**inputs | {"pixel_values": pixels}).logits
    changed = (before - after).abs().amax(-1)[0]
    assert torch.equal(before[0, :1], after[0, :1])
    assert (changed[5:] > 1e-3).all()
    paper = tiny_flamingo()
    # What is seen at one remove, through earlier tokens in the LM's self-attention, shows under both rules; the gated
    # blocks alone tell them apart.
    attended = []
    for rule_model in (model, paper):
        attention = rule_model.gated_cross_attention["0"].attention
        hook = attention.register_forward_hook(lambda *call: attended.append(call[2]))
        rule_model(**inputs)
        rule_model(**inputs | {"pixel_values": pixels})
        hook.remove()
    assert not torch.allclose(attended[0][0, 6], attended[1][0, 6], rtol=0, atol=1e-4)
    assert torch.equal(attended[2][0, 6], attended[3][0, 6])


@torch.no_grad()
def test_the_next_rule_shows_a_text_its_image_behind_it():
    model, batch = tiny_flamingo(media_rule="next"), tiny_batch()
    inputs = batch.tensors()
    del inputs["media_ids"], inputs["labels"]
    pixels = batch.pixel_values.clone()
    pixels[0, 1] += 1.0  # stands at token 5, so tokens 2 to 5 belong to it
    changed = (model(**inputs).logits - model(**inputs | {"pixel_values": pixels}).logits).abs().amax(-1)
    assert (changed[0, :2] == 0).all()
    assert (changed[0, 2:6] > 1e-3).all()


@torch.no_grad()
def test_videos_of_different_lengths_and_images_in_one_batch():
    model, batch = tiny_flamingo(), tiny_batch()
    pixels = torch.randn(2, 2, 5, 3, 16, 16)  # five frames: more than the three encodings
    counts = torch.tensor([[5, 1], [2, 0]])
    sizes = []
    model.vision_model.register_forward_hook(lambda *call: sizes.append(call[2].last_hidden_state.shape[0]))
    together = model(batch.input_ids, batch.attention_mask, pixels, batch.num_images, counts).logits
    assert sizes == [8]  # real frames only
    for row, frames in enumerate(counts.tolist()):
        longest, images = max(frames), int(batch.num_images[row])
        alone = model(
            batch.input_ids[row : row + 1],
            batch.attention_mask[row : row + 1],
            pixels[row : row + 1, :images, :longest],
            num_frames=counts[row : row + 1, :images],
        ).logits
        real = batch.attention_mask[row] > 0
        # Masked keys weigh nothing but are summed over: fp32 rounding, logits of order 5.
        assert torch.allclose(together[row][real], alone[0][real], rtol=0, atol=1e-4)
