import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipVisionModel,
)

from flamingo_ds.checkpoint.pretrained import (
    TokenIds,
    build_model,
    build_processor,
    describe_model,
    skeleton,
)
from flamingo_ds.config import ConfigError
from flamingo_ds.config.schema import FreezeRowConfig, Library, VisionEncoderConfig, VisionFeatures
from flamingo_ds.model.processing import EOC_TOKEN
from flamingo_ds.model.prompt_media import IMAGE_TOKEN
from tests.tiny import (
    IMAGE_SIZE,
    tiny_image,
    tiny_llama,
    tiny_siglip_config,
    tiny_vision_config,
    write_tiny_backbones,
)


@pytest.fixture
def recipe(tmp_path):
    return write_tiny_backbones(tmp_path)


def build(recipe, seed=0):
    return build_model(describe_model(recipe, TokenIds.of(build_processor(recipe))), recipe, seed)


def test_backbones_have_their_sources_weights_and_only_the_rest_is_drawn(tmp_path, recipe):
    model, other = build(recipe, seed=1), build(recipe, seed=2)
    saved = load_file(tmp_path / "lm" / "model.safetensors")
    assert saved.keys() == dict(model.language_model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        same = torch.equal(parameter, other.get_parameter(name))
        if not parameter.requires_grad:
            assert same, name
        # Norms start as ones and zeros and gates as the recipe says; all else comes from the seed.
        elif "norm" not in name and "gate" not in name.split("."):
            assert not same, name
    for name, tensor in saved.items():
        assert torch.equal(model.language_model.get_parameter(name), tensor), name
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), build(recipe, seed=1).parameters(), strict=True))


def test_nothing_is_left_on_the_meta_device_or_unfinished(recipe):
    model = build(recipe)
    tensors = [*model.parameters(), *model.buffers()]
    assert all(tensor.device.type == "cpu" and tensor.isfinite().all() for tensor in tensors)
    assert model.training
    assert not model.language_model.training


def test_the_skeleton_has_the_model_s_names_and_shapes(recipe):
    model, config = build(recipe), describe_model(recipe, TokenIds.of(build_processor(recipe)))
    bones, report = skeleton(config, recipe)
    assert {n: (p.shape, p.requires_grad) for n, p in bones.named_parameters()} == {
        n: (p.shape, p.requires_grad) for n, p in model.named_parameters()
    }
    assert all(parameter.is_meta for parameter in bones.parameters())
    assert sum(line.trainable for line in report) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 40])
def test_new_tokens_follow_the_tokenizer_and_look_like_words(tmp_path, tied, padding):
    recipe = write_tiny_backbones(tmp_path, vocab_size=280 + padding, tie_word_embeddings=tied)
    processor, model = build_processor(recipe), build(recipe)
    config = model.config
    assert (config.first_new_token_id, config.num_new_tokens) == (280, 2)
    assert {config.image_token_id, config.eoc_token_id} == {280, 281}
    assert processor.tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, EOC_TOKEN]) == [
        config.image_token_id,
        config.eoc_token_id,
    ]
    assert config.vocab_size == max(282, 280 + padding)
    assert (model.new_token_head.weight is model.new_token_embedding.weight) == tied
    known = model.language_model.get_input_embeddings().weight
    new = model.new_token_embedding.weight
    # A mean of 280 rows of deviation 0.2 plus a tenth of it: each row is small, and no two are alike.
    assert new.std() < 0.3 * known.std()
    assert not torch.allclose(new[0], new[1], rtol=0, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("kind", [CLIPModel, CLIPVisionModel])
def test_a_transformers_clip_folder(tmp_path, recipe, kind):
    torch.manual_seed(3)
    vision = tiny_vision_config()
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    whole = CLIPConfig(vision_config=vision.to_dict(), text_config=text | {"vocab_size": 50}, projection_dim=16)
    clip = CLIPModel(whole) if kind is CLIPModel else CLIPVisionModel(vision)
    clip.eval().save_pretrained(tmp_path / "hf")
    CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=IMAGE_SIZE).save_pretrained(tmp_path / "hf")
    recipe.vision_encoder = VisionEncoderConfig(library=Library.transformers, source=str(tmp_path / "hf"))
    model = build(recipe)
    pixels = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    tower = clip.vision_model if kind is CLIPModel else clip
    found = model.vision_model(pixel_values=pixels).last_hidden_state
    assert torch.equal(found, tower(pixel_values=pixels).last_hidden_state)
    assert dict(build_processor(recipe).image_processor.crop_size) == {"height": IMAGE_SIZE, "width": IMAGE_SIZE}


@torch.no_grad()
@pytest.mark.parametrize("kind", [SiglipModel, SiglipVisionModel])
def test_a_siglip_folder_without_its_pooling_head(tmp_path, recipe, kind):
    torch.manual_seed(3)
    vision = tiny_siglip_config()
    text = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    whole = SiglipConfig(vision_config=vision.to_dict(), text_config=text | {"vocab_size": 50})
    siglip = (SiglipModel(whole) if kind is SiglipModel else SiglipVisionModel(vision)).eval()
    siglip.save_pretrained(tmp_path / "hf")
    SiglipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}).save_pretrained(tmp_path / "hf")
    recipe.vision_encoder = VisionEncoderConfig(library=Library.transformers, source=str(tmp_path / "hf"))
    model = build(recipe)
    assert not [name for name, _ in model.vision_model.named_parameters() if name.startswith("head")]
    pixels = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    tower = siglip.vision_model if kind is SiglipModel else siglip
    assert torch.equal(model.vision_model(pixels).last_hidden_state, tower(pixels).last_hidden_state)


def test_a_timm_network_by_its_architecture_at_random(recipe):
    """As the recipes of the paper's sizes name it; the image transform is CLIP's, at the network's own size."""
    recipe.vision_encoder = VisionEncoderConfig(
        library=Library.transformers,
        architecture={"model_type": "timm_wrapper", "architecture": "test_nfnet"},
        features=VisionFeatures.grid,
    )
    recipe.resampler.width = 32
    model, again = build(recipe, seed=1), build(recipe, seed=1)
    assert model.config.vision_width == 192
    assert build_processor(recipe).image_processor.crop_size["height"] == 160
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    assert model.encode_media(torch.randn(1, 1, 1, 3, 64, 64)).shape == (1, 1, 4, 32)


def test_a_language_model_from_scratch_or_spelled_out(tmp_path, recipe):
    given = build(recipe, seed=1)
    recipe.language_model.from_scratch = True
    fresh, again = build(recipe, seed=1), build(recipe, seed=1)
    weight = "language_model.model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(fresh.get_parameter(weight), given.get_parameter(weight))
    assert torch.equal(fresh.get_parameter(weight), again.get_parameter(weight))
    recipe.language_model.architecture = {
        "model_type": "gpt_neox",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 300,
    }
    spelled = build(recipe)
    assert spelled.config.text_config.model_type == "gpt_neox"
    assert spelled.config.vocab_size == 300


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ({"hidden_size": 16}, "a model_type, and settings of it"),
        ({"model_type": "no_such_family"}, "settings that transformers takes: .*no_such_family"),
        ({"model_type": "llama", "hidden_size": "wide"}, "settings that transformers takes: "),
    ],
)
def test_an_architecture_that_does_not_exist(recipe, architecture, reason):
    recipe.language_model.architecture = architecture
    with pytest.raises(ConfigError, match=f"model.language_model.architecture = .*{reason}") as caught:
        build(recipe)
    assert "\n" not in str(caught.value)


def test_an_architecture_with_too_small_a_vocabulary(recipe):
    recipe.language_model.architecture = {"model_type": "llama", "vocab_size": 200}
    with pytest.raises(ConfigError, match="first_new_token_id is 280, past the language model's 200 embedding rows"):
        build(recipe)


def test_an_architecture_belongs_to_transformers(recipe):
    recipe.vision_encoder.architecture = {"model_type": "clip_vision_model"}
    with pytest.raises(ConfigError, match=r"model.vision_encoder.architecture = .*library: transformers"):
        build(recipe)


@torch.no_grad()
def test_larger_images_than_the_encoder_was_trained_on(recipe):
    """The paper's fine-tuning at 480 pixels, here 32 instead of 16: sixteen patches instead of four."""
    recipe.vision_encoder.image_size = 2 * IMAGE_SIZE
    processor, model = build_processor(recipe), build(recipe)
    pixels = processor.transform(tiny_image())
    assert pixels.shape == (3, 2 * IMAGE_SIZE, 2 * IMAGE_SIZE)
    sizes = []
    model.resampler.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape))
    model.encode_media(pixels[None, None, None])
    assert sizes == [(1, 1, 16, 32)]


def test_a_transformers_model_without_eyes(tmp_path, recipe):
    recipe.vision_encoder = VisionEncoderConfig(library=Library.transformers, source=str(tmp_path / "lm"))
    with pytest.raises(
        ConfigError, match="expected one of clip_vision_model, siglip_vision_model, timm_wrapper, not a"
    ):
        describe_model(recipe, TokenIds(0, 2, 0, 1))


def test_no_vision_encoder_at_all(recipe):
    recipe.vision_encoder = VisionEncoderConfig(library=Library.transformers)
    with pytest.raises(ConfigError, match="model.vision_encoder.source = ''"):
        build(recipe)


def damaged(path, damage):
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "a weight missing":
        kept = load_file(path)
        del kept["model.layers.1.mlp.up_proj.weight"]
        save_file(kept, path, metadata={"format": "pt"})
    else:
        tiny_llama(vocab_size=280, intermediate_size=72).save_pretrained(path.parent / "other")
        (path.parent / "other" / path.name).replace(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("gone", "no file named model.safetensors"),
        ("truncated", ""),
        ("a weight missing", r"1 weights are not there, such as model\.layers\.1\.mlp\.up_proj\.weight"),
        ("other shapes", r"mlp\.down_proj\.weight is \(32, 72\), not \(32, 64\)"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(tmp_path, recipe, damage, reason):
    """transformers would fill in random numbers for missing ones, and in a frozen model they would stay."""
    damaged(tmp_path / "lm" / "model.safetensors", damage)
    with pytest.raises(ConfigError, match=f"model.language_model.source = .*language model weights; .*{reason}") as e:
        build(recipe)
    assert "\n" not in str(e.value)


def test_sources_that_are_not_there(recipe):
    recipe.language_model.source = "/nowhere/lm"
    with pytest.raises(ConfigError, match="model.language_model.source = '/nowhere/lm'") as caught:
        build_processor(recipe)
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_be_built_is_named(recipe):
    recipe.gated_cross_attention.offset = 3
    with pytest.raises(ConfigError, match="cross_attention_offset is 3; expected 0 to 2"):
        describe_model(recipe, TokenIds.of(build_processor(recipe)))


def test_a_freeze_table_that_does_not_fit_is_named(recipe):
    recipe.freeze = [*recipe.freeze, FreezeRowConfig("languagemodel.*", True)]
    with pytest.raises(ConfigError, match=r"model.freeze = .*row 'languagemodel\.\*' matches no parameter"):
        skeleton(describe_model(recipe, TokenIds.of(build_processor(recipe))), recipe)
