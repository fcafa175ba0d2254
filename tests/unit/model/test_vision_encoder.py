"""Features of every kind of encoder, against what the libraries themselves compute on the way."""

import pytest
import torch
from transformers import AutoModel, TimmWrapperConfig

from flamingo_ds.model import FlamingoForConditionalGeneration
from flamingo_ds.model.vision_encoder import encode_images
from tests.tiny import IMAGE_SIZE, tiny_batch, tiny_flamingo, tiny_siglip_config, tiny_vision_config


def encoder(config):
    torch.manual_seed(0)
    made = AutoModel.from_config(config).eval()
    torch.nn.init.normal_(made.post_layernorm.bias)  # else the norm would hardly show
    return made


@torch.no_grad()
@pytest.mark.parametrize("config", [tiny_vision_config(), tiny_siglip_config()], ids=["clip", "siglip"])
def test_both_sides_of_the_final_norm(config):
    made, pixels = encoder(config), torch.randn(3, 3, IMAGE_SIZE, IMAGE_SIZE)
    last = []
    made.encoder.register_forward_hook(lambda *call: last.append(call[2].last_hidden_state))
    made(pixels)
    patches = slice(-4, None)
    pre, post = (encode_images(made, pixels, features, False) for features in ("pre_norm", "post_norm"))
    assert torch.equal(pre, last[0][:, patches])
    assert torch.equal(post, made.post_layernorm(last[0])[:, patches])
    assert not made.post_layernorm._forward_pre_hooks


@torch.no_grad()
@pytest.mark.parametrize("config", [tiny_vision_config(), tiny_siglip_config()], ids=["clip", "siglip"])
def test_another_size_interpolates_positions(config):
    made, pixels = encoder(config), torch.randn(2, 3, 24, 32)
    wanted = made(pixels, interpolate_pos_encoding=True).last_hidden_state[:, -12:]
    features = "pre_norm" if config.model_type == "clip_vision_model" else "post_norm"
    assert torch.equal(encode_images(made, pixels, features, False), wanted)
    with pytest.raises(ValueError, match="images are 24 x 4; expected at least a patch, 8"):
        encode_images(made, torch.randn(1, 3, 24, 4), features, False)


def test_a_siglip_that_trains_before_its_norm_gets_gradients():
    made = encoder(tiny_siglip_config())
    encode_images(made, torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE), "pre_norm", False).sum().backward()
    assert made.embeddings.patch_embedding.weight.grad.abs().sum() > 0


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"vision_config": tiny_siglip_config(vision_use_head=False)},
        {"vision_config": tiny_siglip_config(vision_use_head=False), "vision_features": "post_norm"},
        {
            "vision_config": TimmWrapperConfig(architecture="test_nfnet", do_pooling=False),
            "vision_width": 192,
            "vision_features": "grid",
            "resampler_width": 32,
        },
    ],
    ids=["siglip", "siglip normed", "nfnet"],
)
def test_a_flamingo_around_it_is_saved_and_loaded(changes, tmp_path):
    model = tiny_flamingo(**changes)
    inputs = tiny_batch().tensors()
    inputs["pixel_values"] = torch.randn(2, 2, 1, 3, 64, 64) if "vision_width" in changes else inputs["pixel_values"]
    model.save_pretrained(tmp_path)
    again = FlamingoForConditionalGeneration.from_pretrained(tmp_path).eval()
    logits = model(**inputs).logits
    assert torch.equal(logits, again(**inputs).logits)
    other = inputs | {"pixel_values": -inputs["pixel_values"]}
    assert not torch.allclose(logits, model(**other).logits, rtol=0, atol=1e-3)
