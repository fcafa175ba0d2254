import json

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model

from flamingo_ds.checkpoint.open_clip_vision import describe, load, to_transformers_names
from flamingo_ds.config import ConfigError
from flamingo_ds.config.schema import VisionEncoderConfig
from flamingo_ds.model.vision_encoder import encode_images
from tests.tiny import IMAGE_SIZE, tiny_open_clip, write_open_clip


def source(folder, **more):
    return VisionEncoderConfig(source=f"local-dir:{folder}", **more)


def with_vision(**changes):
    return tiny_open_clip()["vision_cfg"] | changes


@torch.no_grad()
@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("mlp_ratio", [4.0, 2.5])
def test_tokens_are_open_clip_s_own(tmp_path, quick_gelu, mlp_ratio):
    clip = write_open_clip(tmp_path / "clip", quick_gelu=quick_gelu, vision_cfg=with_vision(mlp_ratio=mlp_ratio))
    for parameter in clip.visual.parameters():
        # Norms and biases start as ones and zeros: swapped or dropped they would not show.
        parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(clip, str(tmp_path / "clip" / "open_clip_model.safetensors"))
    encoder = load(source(tmp_path / "clip")).eval()
    seen = []
    clip.visual.transformer.register_forward_hook(lambda *call: seen.append(call[2]))
    pixels = torch.randn(3, 3, IMAGE_SIZE, IMAGE_SIZE)
    clip.visual(pixels)
    pre = encode_images(encoder, pixels, "pre_norm", class_token=True)
    assert pre.shape == seen[0].shape == (3, 5, 32)
    # The same sums by other kernels (one fused projection against three): fp32 rounding of tokens of order 2.
    assert torch.allclose(pre, seen[0], rtol=0, atol=1e-5)
    # Measured: 1e-6; the wrong activation is off by 4e-2.
    post = encode_images(encoder, pixels, "post_norm", class_token=False)
    assert torch.allclose(post, clip.visual.ln_post(seen[0])[:, 1:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_activation_shows_in_the_tokens(tmp_path):
    """That the comparison above could have failed: the same weights under the other activation."""
    write_open_clip(tmp_path / "plain")
    write_open_clip(tmp_path / "quick", quick_gelu=True)
    plain, quick = load(source(tmp_path / "plain")), load(source(tmp_path / "quick"))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), quick.parameters(), strict=True))
    pixels = torch.randn(3, 3, IMAGE_SIZE, IMAGE_SIZE)
    tokens = [encode_images(encoder, pixels, "pre_norm", class_token=True) for encoder in (plain, quick)]
    assert (tokens[0] - tokens[1]).abs().max() > 1e-4


def test_an_unknown_parameter_is_refused(tmp_path):
    state = dict(write_open_clip(tmp_path / "clip").visual.state_dict())
    assert "visual_projection" not in to_transformers_names(state)
    with pytest.raises(ValueError, match=r"transformer\.resblocks\.0\.ls_1\.gamma has no transformers name"):
        to_transformers_names(state | {"transformer.resblocks.0.ls_1.gamma": torch.ones(32)})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"attentional_pool": True}, "attentional_pool"),
        ({"ls_init_value": 1e-4}, "ls_init_value"),
        ({"no_ln_pre": True}, "no_ln_pre"),
        ({"act_kwargs": {"approximate": "tanh"}}, "act_kwargs"),
        ({"norm_kwargs": {"eps": 1e-6}}, "norm_kwargs"),
        ({"layers": [3, 4, 6, 3]}, r"\[3, 4, 6, 3\]"),
    ],
)
def test_a_tower_that_clip_cannot_express_is_refused_before_its_weights_are_read(tmp_path, changes, named):
    write_open_clip(tmp_path / "clip")
    content = tiny_open_clip(vision_cfg=with_vision(**changes))
    (tmp_path / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": content}), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"model.vision_encoder.source = .*a plain ViT; .*{named}"):
        describe(source(tmp_path / "clip"))


@torch.no_grad()
@pytest.mark.parametrize("proj", ["linear", "none"])
def test_a_timm_tower_gives_its_own_last_feature_map(tmp_path, proj):
    vision = {"timm_model_name": "test_nfnet", "timm_pool": "avg", "timm_proj": proj, "image_size": 64}
    clip = write_open_clip(tmp_path / "clip", vision_cfg=vision, embed_dim=192)
    encoder = load(source(tmp_path / "clip")).eval()
    assert encoder.config.model_type == "timm_wrapper"
    pixels = torch.randn(2, 3, 64, 64)
    wanted = clip.visual.trunk.forward_features(pixels)
    assert wanted.shape == (2, 192, 2, 2)
    tokens = encode_images(encoder, pixels, "grid", class_token=False)
    assert tokens.shape == (2, 4, 192)
    assert torch.equal(tokens[:, 1], wanted[:, :, 0, 1])  # row by row
    assert torch.equal(tokens[:, 2], wanted[:, :, 1, 0])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_vit", r"gives \(1, \d+, 64\)"),
        ("vit_base_patch16_siglip_224", "SigLIP: library transformers, source google/siglip-"),
        ("swin_tiny_patch4_window7_224", r"gives \(1, 7, 7, 768\)"),
        ("no_such_net", "Unknown model"),
    ],
)
def test_a_timm_tower_without_a_feature_map_is_refused(tmp_path, name, reason):
    (tmp_path / "clip").mkdir()
    content = tiny_open_clip(vision_cfg={"timm_model_name": name, "image_size": 64})
    (tmp_path / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": content}), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"model.vision_encoder.source = .*a timm network.*{reason}"):
        describe(source(tmp_path / "clip"))


def test_timm_weights_that_are_not_there(tmp_path):
    vision = {"timm_model_name": "test_nfnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    write_open_clip(tmp_path / "clip", vision_cfg=vision)
    weights = tmp_path / "clip" / "open_clip_model.safetensors"
    kept = load_file(weights)
    del kept["visual.trunk.stem.conv1.weight"]
    save_file(kept, weights)
    with pytest.raises(ConfigError, match="open_clip weights that load: .*stem.conv1.weight"):
        load(source(tmp_path / "clip"))


def test_another_image_size_changes_the_transform_and_not_the_tower(tmp_path):
    write_open_clip(tmp_path / "clip")
    found = describe(source(tmp_path / "clip", image_size=24))
    assert found.config.image_size == IMAGE_SIZE
    assert dict(found.image_processor.crop_size) == {"height": 24, "width": 24}


@pytest.mark.parametrize(
    ("name", "tag", "activation"),
    [
        ("ViT-L-14", "openai", "quick_gelu"),
        ("ViT-B-32", "metaclip_400m", "quick_gelu"),
        ("ViT-B-32-quickgelu", "metaclip_400m", "quick_gelu"),
        ("ViT-B-32", "laion2b_s34b_b79k", "gelu"),
        ("ViT-H-14", "laion2b_s32b_b79k", "gelu"),
    ],
)
def test_the_weights_tag_decides_the_activation(name, tag, activation):
    assert describe(VisionEncoderConfig(source=name, pretrained=tag)).config.hidden_act == activation


def test_shapes_of_a_known_model():
    config = describe(VisionEncoderConfig(source="ViT-bigG-14", pretrained="laion2b_s39b_b160k")).config
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (1664, 8192, 48)
    assert (config.num_attention_heads, config.patch_size, config.image_size) == (16, 14, 224)


def test_the_image_processor_has_the_folder_s_mean_and_deviation(tmp_path):
    write_open_clip(tmp_path / "clip")
    processor = describe(source(tmp_path / "clip")).image_processor
    assert [*processor.image_mean, *processor.image_std] == [0.4, 0.5, 0.6, 0.2, 0.3, 0.4]
    assert processor.resample == 2
    assert dict(processor.crop_size) == {"height": IMAGE_SIZE, "width": IMAGE_SIZE}


@pytest.mark.parametrize("missing", ["local-dir:/nowhere", "ViT-Z-99"])
def test_a_source_that_is_not_there(missing):
    with pytest.raises(ConfigError, match="model.vision_encoder.source = ") as caught:
        describe(VisionEncoderConfig(source=missing))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["gone", "truncated", "of another width"])
def test_weights_that_do_not_load(tmp_path, damage):
    write_open_clip(tmp_path / "clip")
    weights = tmp_path / "clip" / "open_clip_model.safetensors"
    if damage == "gone":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        write_open_clip(tmp_path / "other", vision_cfg=with_vision(width=48))
        (tmp_path / "other" / "open_clip_model.safetensors").replace(weights)
    with pytest.raises(ConfigError, match="open_clip weights that load: ") as caught:
        load(source(tmp_path / "clip"))
    assert "\n" not in str(caught.value)


def test_a_model_name_without_weights_is_refused():
    """open_clip would only warn and give a random tower."""
    with pytest.raises(ConfigError, match="open_clip weights that load: "):
        load(VisionEncoderConfig(source="ViT-S-32-alt"))
