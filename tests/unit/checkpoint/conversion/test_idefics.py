"""Folders of transformers' own Idefics, written and read."""

import json
import shutil

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    IdeficsImageProcessor,
    IdeficsProcessor,
)

from flamingo_ds.checkpoint.conversion.from_idefics import checkpoint_from_idefics, is_idefics
from flamingo_ds.checkpoint.conversion.new_checkpoint import Target, write_checkpoint
from flamingo_ds.checkpoint.conversion.source_checkpoint import SourceCheckpoint
from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions
from flamingo_ds.checkpoint.conversion.to_idefics import export_idefics, idefics_inputs
from flamingo_ds.checkpoint.conversion.verify import verify_export
from flamingo_ds.checkpoint.stored_tensor import StoredTensor
from flamingo_ds.config import ConfigError, to_yaml
from flamingo_ds.config.schema import Style
from flamingo_ds.parallel import Filler
from tests.tiny import tiny_image, tiny_recipe, tiny_tokenizer, write_tiny_backbones

TEXTS = ["<image>a red<EOC><image>a", "a picture<image>"]


def recipe_of(folder, extra_tokens=(), **llama):
    model = write_tiny_backbones(folder, rms_norm_eps=1e-6, num_hidden_layers=4, **llama)
    model.style, model.vision_encoder.class_token = Style.idefics, True
    model.resampler.max_frames, model.gated_cross_attention.every = 0, 2
    model.extra_tokens = list(extra_tokens)
    return tiny_recipe(folder, model)


def checkpoint_of(folder, **options):
    """Of random weights, as no training is needed for it."""
    recipe = recipe_of(folder, **options)
    target = Target.of(recipe)
    generator = torch.Generator().manual_seed(3)
    shapes = {name: parameter.shape for name, parameter in target.model.named_parameters()}

    def draw(name):
        return [StoredTensor.plain(0.3 * torch.randn(shapes[name], generator=generator))]

    return write_checkpoint(folder / "checkpoint", target, draw, "nothing")


def ours(path):
    source = SourceCheckpoint.open(path)
    Filler(lambda name: source.stored(name).value()).fill(source.model)
    return source.model.eval()


def same_logits(ours, theirs, inputs):
    mask = inputs["attention_mask"] > 0
    with torch.no_grad():
        wanted = ours(**inputs).logits
        found = theirs(**idefics_inputs(inputs, ours.config.image_token_id)).logits
    assert wanted.std() > 0.1
    rows = min(found.shape[-1], wanted.shape[-1])
    assert torch.allclose(found[..., :rows][mask], wanted[..., :rows][mask], rtol=0, atol=1e-5)
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"num_key_value_heads": 2}, {"tie_word_embeddings": True}, {"extra_tokens": ["<fake_token_around_image>"]}],
    ids=["plain", "grouped heads", "tied", "knows their token"],
)
def test_an_export_gives_our_logits_without_our_code(tmp_path, options):
    path = checkpoint_of(tmp_path, **options)
    out = export_idefics(path, tmp_path / "idefics", ExportOptions(max_shard_size="50KB"))
    assert not list(out.glob("*.py"))
    model = AutoModelForImageTextToText.from_pretrained(out).eval()
    assert type(model) is IdeficsForVisionText2Text
    assert model.config.vocab_size == 283  # 280 of the tokenizer, <image>, <EOC> and the fake token
    source = SourceCheckpoint.open(path)
    from flamingo_ds.model import FlamingoProcessor

    processor = FlamingoProcessor.from_pretrained(source.checkpoint.path / "model")
    inputs = processor(images=[tiny_image(n) for n in range(3)], text=TEXTS)
    found = same_logits(ours(path), model, inputs)
    if not options.get("extra_tokens"):
        assert not found[..., 282].any()  # a token that was never trained
    assert verify_export(out, source.checkpoint).tensors == len(
        json.loads((out / "manifest.json").read_text())["tensors"]
    )


def test_its_own_processor_reads_the_folder_and_generates(tmp_path):
    path = checkpoint_of(tmp_path, extra_tokens=["<fake_token_around_image>"])
    out = export_idefics(path, tmp_path / "idefics", ExportOptions())
    processor, model = AutoProcessor.from_pretrained(out), AutoModelForImageTextToText.from_pretrained(out).eval()
    assert isinstance(processor, IdeficsProcessor)
    inputs = processor(text=[[tiny_image(0), "a red", tiny_image(1), "a"]], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 2, 3, 16, 16)
    tokens = model.generate(**inputs, max_new_tokens=4, num_beams=2, do_sample=False)
    assert tokens.shape[1] <= inputs["input_ids"].shape[1] + 4
    card = (out / "README.md").read_text()
    assert "was not trained with" not in card
    assert "IdeficsForVisionText2Text.from_pretrained(FOLDER)" in card


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("style", "paper", "model.style = 'paper': expected 'idefics'"),
        ("media_rule", "next", "model.media_rule"),
        ("resampler_kind", "mean", "model.resampler.kind = 'mean': expected 'perceiver'"),
        ("gate", "none", "model.gated_cross_attention.gate = 'none': expected 'tanh'"),
        ("vision_class_token", False, "model.vision_encoder.class_token"),
        ("cross_attention_offset", 1, "model.gated_cross_attention.offset"),
        ("cross_attention_every", 3, "left over by model.gated_cross_attention.every = 1"),
        ("max_frames", 2, "model.resampler.max_frames = 2: expected 0, as Idefics has it"),
    ],
)
def test_what_its_class_cannot_be_is_refused(tmp_path, key, value, match):
    from flamingo_ds.checkpoint.conversion.idefics_config import to_idefics

    config = Target.of(recipe_of(tmp_path)).config
    assert to_idefics(config, 283).vocab_size == 283
    setattr(config, key, value)
    with pytest.raises(ConfigError, match=match):
        to_idefics(config, 283)


def write_idefics(folder, additional, **changes):
    """A folder as its own classes write it."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<fake_token_around_image>", "<image>"]})
    vision = {"embed_dim": 32, "image_size": 16, "patch_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    resampler = {"resampler_n_latents": 5, "resampler_depth": 2, "resampler_n_heads": 2, "resampler_head_dim": 8}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = IdeficsConfig(
        **sizes,
        vocab_size=len(tokenizer) - additional,
        additional_vocab_size=additional,
        cross_layer_interval=2,
        vision_config=vision | {"intermediate_size": 64, "hidden_act": "gelu"},
        perceiver_config={"use_resampler": True, **resampler},
        **{"use_resampler": True, "initializer_range": 0.2, **changes},
    )
    torch.manual_seed(0)
    model = IdeficsForVisionText2Text(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    transform = IdeficsImageProcessor(image_size=16, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    IdeficsProcessor(transform, tokenizer, image_size=16).save_pretrained(folder)
    return model


@pytest.mark.parametrize("normed", [False, True], ids=["plain", "query and key norm"])
@pytest.mark.parametrize("additional", [0, 2])
def test_theirs_becomes_a_checkpoint_and_theirs_again(tmp_path, additional, normed):
    model = write_idefics(tmp_path / "theirs", additional, qk_layer_norms=normed)
    assert is_idefics(tmp_path / "theirs")
    recipe = recipe_of(tmp_path)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    out = checkpoint_from_idefics(tmp_path / "theirs", tmp_path / "checkpoint", str(tmp_path / "recipe.yaml"), [])
    converted = ours(out)
    assert converted.config.image_token_id == 281
    from flamingo_ds.model import FlamingoProcessor

    processor = FlamingoProcessor.from_pretrained(out / "model")
    images = [tiny_image(n) for n in range(3)]
    inputs = processor(images=images, text=[text.replace("<EOC>", "") for text in TEXTS])
    same_logits(converted, model, inputs)
    # Its own transform of the images, too.
    theirs = AutoProcessor.from_pretrained(tmp_path / "theirs").image_processor(images, return_tensors="pt")
    assert torch.allclose(inputs["pixel_values"][0, :2, 0], theirs[:2], atol=1e-6)
    again = export_idefics(out, tmp_path / "again", ExportOptions())
    same_logits(converted, AutoModelForImageTextToText.from_pretrained(again).eval(), inputs)


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"alpha_type": "vector"}, "alpha_type"), ({"use_resampler": False}, "use_resampler")],
)
def test_what_ours_cannot_be_is_refused(tmp_path, changes, match):
    write_idefics(tmp_path / "theirs", 0, **changes)
    with pytest.raises(ConfigError, match=match):
        checkpoint_from_idefics(tmp_path / "theirs", tmp_path / "checkpoint", "fine-tune", [])
    assert not (tmp_path / "checkpoint").exists()


def test_a_missing_weight_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    write_idefics(tmp_path / "theirs", 0)
    file = tmp_path / "theirs/model.safetensors"
    weights = load_file(file)
    del weights["model.perceiver_resampler.latents"]
    save_file(weights, file, {"format": "pt"})
    recipe = recipe_of(tmp_path)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    with pytest.raises(ConfigError, match=r"model.perceiver_resampler.latents"):
        checkpoint_from_idefics(tmp_path / "theirs", tmp_path / "checkpoint", str(tmp_path / "recipe.yaml"), [])
    assert not (tmp_path / "checkpoint").exists()
    shutil.rmtree(tmp_path / "theirs")
    assert not is_idefics(tmp_path / "theirs")
