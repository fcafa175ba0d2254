"""The ``idefics`` style is transformers' stock Idefics: its weights and logits, in both directions."""

import pytest
import torch
from transformers import IdeficsConfig, IdeficsForVisionText2Text

from flamingo_ds.checkpoint.idefics_names import idefics_table
from flamingo_ds.model import FlamingoForConditionalGeneration
from tests.parity.peers import EOC, IMAGE, VOCABULARY, draw
from tests.tiny import tiny_config, tiny_text_config, tiny_vision_config

IDS = torch.tensor(
    [[5, 6, IMAGE, 7, 8, EOC, IMAGE, IMAGE, 9, 10, 11, EOC], [IMAGE, 6, 7, EOC, 11, 12, 13, 0, 0, 0, 0, 0]]
)
MASK = (IDS != 0).long()
LATENTS = 5


def idefics(every: int, normed: bool) -> IdeficsForVisionText2Text:
    vision = {"embed_dim": 32, "image_size": 16, "patch_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    resampler = {"resampler_n_latents": LATENTS, "resampler_depth": 2, "resampler_n_heads": 2, "resampler_head_dim": 8}
    config = IdeficsConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        cross_layer_interval=every,
        qk_layer_norms=normed,
        use_resampler=True,
        vision_config=vision | {"intermediate_size": 64, "hidden_act": "gelu"},
        perceiver_config=resampler | {"qk_layer_norms_perceiver": normed},
    )
    torch.manual_seed(0)
    model = IdeficsForVisionText2Text(config)
    draw(model)
    return model.eval()


def flamingo(every: int, normed: bool) -> FlamingoForConditionalGeneration:
    text = tiny_text_config("llama", vocab_size=VOCABULARY, num_hidden_layers=4, rms_norm_eps=1e-6)
    config = tiny_config(
        text,
        style="idefics",
        vision_config=tiny_vision_config(hidden_act="gelu", layer_norm_eps=1e-5),
        vision_class_token=True,
        cross_attention_every=every,
        cross_attention_query_key_norm=normed,
        resampler_query_key_norm=normed,
        resampler_latents=LATENTS,
        max_frames=0,
        num_new_tokens=0,
        image_token_id=IMAGE,
        eoc_token_id=EOC,
    )
    torch.manual_seed(1)
    return FlamingoForConditionalGeneration(config).eval()


def their_logits(model: IdeficsForVisionText2Text, pixels: torch.Tensor) -> torch.Tensor:
    """With the attention mask that means: the last image before a token."""
    seen = (IDS == IMAGE).cumsum(-1)
    last_image = (seen.unsqueeze(-1) == torch.arange(1, 4)).long()
    return model(input_ids=IDS, attention_mask=MASK, pixel_values=pixels, image_attention_mask=last_image).logits


def assert_close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """They encode the padding images too, which nobody sees. fp32 sums in another order: 1e-5 of the largest logit."""
    found, wanted = found[MASK > 0], wanted[MASK > 0]
    assert (found - wanted).abs().max() < 1e-5 * max(1.0, float(wanted.abs().max())), (found - wanted).abs().max()


@torch.no_grad()
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "query and key norm"])
@pytest.mark.parametrize("every", [1, 2])
def test_their_weights_give_their_logits(every, normed):
    theirs, ours = idefics(every, normed), flamingo(every, normed)
    table = idefics_table(ours.config.gated_block_indices)
    ours.load_state_dict(table.to_ours(theirs.state_dict()))  # strict: nothing missing, nothing left over
    pixels = torch.randn(2, 3, 3, 16, 16)
    found = ours(IDS, MASK, pixels.unsqueeze(2), torch.tensor([3, 1])).logits
    assert_close(found, their_logits(theirs, pixels))
    other = ours(IDS, MASK, pixels.flip(-1).unsqueeze(2), torch.tensor([3, 1])).logits
    assert (other - found)[0, 2:].abs().amax(-1).min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "query and key norm"])
def test_our_weights_give_our_logits_in_their_class(normed):
    theirs, ours = idefics(2, normed), flamingo(2, normed)
    draw(ours, seed=2)
    theirs.load_state_dict(idefics_table(ours.config.gated_block_indices).to_theirs(ours.state_dict()))
    pixels = torch.randn(2, 3, 3, 16, 16)
    found = ours(IDS, MASK, pixels.unsqueeze(2), torch.tensor([3, 1])).logits
    assert_close(found, their_logits(theirs, pixels))
