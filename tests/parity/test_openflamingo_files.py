"""Files that OpenFlamingo 2.0.1 saves are read, and files that it loads are written: the same logits both ways."""

import sys
from types import ModuleType

import open_clip
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flamingo_ds.checkpoint.conversion.from_openflamingo import checkpoint_from_openflamingo
from flamingo_ds.checkpoint.conversion.source_checkpoint import SourceCheckpoint
from flamingo_ds.checkpoint.conversion.to_openflamingo import export_openflamingo
from flamingo_ds.checkpoint.open_clip_vision import to_transformers_names
from flamingo_ds.checkpoint.openflamingo_names import otter_table
from flamingo_ds.config import ConfigError
from flamingo_ds.config.schema import Style, VisionFeatures
from flamingo_ds.model.decoder_blocks import BLOCK_PATHS
from flamingo_ds.parallel import Filler
from tests.parity.peers import draw
from tests.tiny import tiny_recipe, tiny_text_config, tiny_tokenizer, write_tiny_backbones

FAMILIES = ["llama", "opt", "gpt_neox"]
EVERY = 2


def bases(folder, family, **text):
    """A recipe in OpenFlamingo's style around bases on disk; ``post_norm`` as open_clip gives since its 2.23."""
    model = write_tiny_backbones(folder)
    tokenizer = tiny_tokenizer()
    torch.manual_seed(1)
    language_model = AutoModelForCausalLM.from_config(tiny_text_config(family, vocab_size=len(tokenizer), **text))
    language_model.save_pretrained(folder / "lm")
    model.style = Style.openflamingo
    model.vision_encoder.features = VisionFeatures.post_norm
    resampler, gated = model.resampler, model.gated_cross_attention
    resampler.depth, resampler.latents, resampler.heads, resampler.head_width, resampler.max_frames = 6, 64, 8, 64, 0
    gated.every, gated.offset = EVERY, EVERY - 1
    return tiny_recipe(folder, model)


def theirs(folder, family):
    """Built as its ``create_model_and_transforms`` does; new rows and trained layers at random."""
    from open_flamingo.src.flamingo import Flamingo
    from open_flamingo.src.flamingo_lm import FlamingoLMMixin
    from open_flamingo.src.utils import extend_instance

    tokenizer = AutoTokenizer.from_pretrained(folder / "lm")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endofchunk|>", "<image>"]})
    language_model = AutoModelForCausalLM.from_pretrained(folder / "lm")
    extend_instance(language_model, FlamingoLMMixin)
    language_model.set_decoder_layers_attr_name(BLOCK_PATHS[family])
    language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    clip = open_clip.create_model(f"local-dir:{folder / 'clip'}").float()
    clip.visual.output_tokens = True
    eoc, image = (tokenizer.encode(token)[-1] for token in ("<|endofchunk|>", "<image>"))
    model = Flamingo(clip, language_model, eoc, image, vis_dim=32, cross_attn_every_n_layers=EVERY)
    model.requires_grad_(False)
    model.perceiver.requires_grad_(True)
    model.lang_encoder.gated_cross_attn_layers.requires_grad_(True)
    model.lang_encoder.get_input_embeddings().requires_grad_(True)
    return model.eval(), eoc, image


def randomise(model, first):
    for part in (model.perceiver, model.lang_encoder.gated_cross_attn_layers):
        draw(part)
    with torch.no_grad():
        for module in (model.lang_encoder.get_input_embeddings(), model.lang_encoder.get_output_embeddings()):
            module.weight[first:].normal_(std=0.3)


@pytest.fixture
def trained_part(monkeypatch):
    """Their own filter of what a file holds; its module also wants a logger of theirs."""
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    from open_flamingo.train.train_utils import filter_state_dict_to_trainable

    return filter_state_dict_to_trainable


def ids(image, eoc):
    rows = [[5, 6, image, 7, 8, eoc, image, 9, 10, 11, eoc], [image, 6, 7, eoc, 11, 12, 13, 14, 15, 16, 17]]
    return torch.tensor(rows)


def ours(path):
    source = SourceCheckpoint.open(path)
    Filler(lambda name: source.stored(name).value()).fill(source.model)
    return source.model.eval()


@torch.no_grad()
def largest_difference(ours, theirs, eoc, image):
    """Over the LM's own tokens, and the two new ones, which have each other's ids."""
    pixels = torch.randn(2, 2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    config = ours.config
    wanted = theirs(pixels, ids(image, eoc), torch.ones(2, 11, dtype=torch.long)).logits
    found = ours(ids(config.image_token_id, config.eoc_token_id), None, pixels, torch.tensor([2, 1])).logits
    order = [*range(config.first_new_token_id), image, eoc, *range(image + 1, found.shape[-1])]  # <image>, <EOC>, ...
    assert wanted.std() > 0.1
    return float((found - wanted[..., order]).abs().max())


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_their_file_becomes_a_checkpoint(tmp_path, trained_part, family, tied):
    recipe = bases(tmp_path, family, tie_word_embeddings=tied)
    model, eoc, image = theirs(tmp_path, family)
    randomise(model, eoc)
    state = trained_part(model, {name: tensor.clone() for name, tensor in model.state_dict().items()})
    torch.save({"epoch": 0, "model_state_dict": {f"module.{name}": state[name] for name in state}}, tmp_path / "of.pt")
    notes = checkpoint_from_openflamingo(tmp_path / "of.pt", tmp_path / "checkpoint", recipe)
    converted = ours(tmp_path / "checkpoint")
    if not tied:  # their files leave a resized head out
        assert notes == ["new_token_head.weight: the file has no rows for new tokens in its head; drawn anew"]
        head = model.lang_encoder.get_output_embeddings().weight.detach()
        converted.new_token_head.weight.data.copy_(head[[image, eoc]])
    assert largest_difference(converted, model, eoc, image) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_state_dict_becomes_a_checkpoint_and_a_file_of_theirs_again(tmp_path, family):
    recipe = bases(tmp_path, family)
    model, eoc, image = theirs(tmp_path, family)
    randomise(model, eoc)
    torch.save(model.state_dict(), tmp_path / "whole.pt")
    assert checkpoint_from_openflamingo(tmp_path / "whole.pt", tmp_path / "checkpoint", recipe) == []
    converted = ours(tmp_path / "checkpoint")
    assert largest_difference(converted, model, eoc, image) < 1e-5

    export_openflamingo(tmp_path / "checkpoint", tmp_path / "again.pt")
    fresh, eoc, image = theirs(tmp_path, family)
    assert largest_difference(converted, fresh, eoc, image) > 1e-3
    state = torch.load(tmp_path / "again.pt", weights_only=True)["model_state_dict"]
    _, unexpected = fresh.load_state_dict(state, strict=False)
    assert unexpected == (["lang_encoder.embed_out.weight"] if family == "gpt_neox" else [])
    assert largest_difference(converted, fresh, eoc, image) < 1e-5


def test_other_models_and_bases_are_refused_by_name(tmp_path):
    recipe = bases(tmp_path, "llama")
    model, eoc, _ = theirs(tmp_path, "llama")
    randomise(model, eoc)

    def refused(change, match):
        state = model.state_dict()
        torch.save(change(state), tmp_path / "bad.pt")
        with pytest.raises(ConfigError, match=match):
            checkpoint_from_openflamingo(tmp_path / "bad.pt", tmp_path / "checkpoint", recipe)
        assert not (tmp_path / "checkpoint").exists()

    def without(name):
        return lambda state: {key: tensor for key, tensor in state.items() if name not in key}

    embedding = "lang_encoder.model.embed_tokens.weight"
    refused(without("perceiver.latents"), "resampler.latents: expected|resampler.latents = .*|resampler.latents")
    refused(lambda state: {**state, "perceiver.odd": torch.zeros(1)}, "names = .*perceiver.odd|perceiver.odd")
    refused(lambda state: {**state, "lang_encoder.odd": torch.zeros(1)}, "language_model.odd")
    refused(lambda state: {**state, "perceiver.latents": torch.zeros(3, 32)}, r"resampler.latents = .*\(3, 32\)")
    refused(lambda state: {**state, embedding: state[embedding] + 1}, "the frozen weights of the recipe's base")
    refused(lambda state: {**state, embedding: state[embedding][:eoc]}, f"embed_tokens.weight of {eoc} rows")
    refused(lambda state: {**state, "vision_encoder.ln_post.bias": torch.ones(32)}, "vision_model.post_layernorm.bias")
    refused(lambda state: [1], "a dictionary of tensors; it is a list")
    recipe.model.resampler.latents = 5
    refused(lambda state: state, r"model \(resampler_latents\) = 5: expected 64, as OpenFlamingo has it")


def test_otter_s_folder_becomes_a_checkpoint(tmp_path):
    """Its names, with CLIP under transformers' names, in the hub's older format; its third token has a row too."""
    recipe = bases(tmp_path, "llama")
    recipe.model.extra_tokens = ["<answer>"]
    model, eoc, image = theirs(tmp_path, "llama")
    model.lang_encoder.resize_token_embeddings(eoc + 3, mean_resizing=False)
    randomise(model, eoc)
    state = {name: tensor for name, tensor in model.state_dict().items() if "old_decoder_blocks" not in name}
    vision = {name: state.pop(name) for name in list(state) if name.startswith("vision_encoder.")}
    state = {name: state[name] for name in state if "gated_cross_attn_layers" not in name}
    otter = otter_table("model.layers").to_theirs(state)
    expected = {
        "perceiver.layers.5.norm_media.weight",
        "perceiver.layers.0.to_kv.weight",
        "perceiver.layers.0.feed_forward.1.weight",
        "lang_encoder.model.layers.1.gated_cross_attn_layer.feed_forward.3.weight",
        "lang_encoder.model.layers.1.gated_cross_attn_layer.attn.to_kv.weight",
        "lang_encoder.model.layers.1.gated_cross_attn_layer.attn_gate",
        "lang_encoder.model.layers.0.decoder_layer.self_attn.q_proj.weight",
    }
    assert expected <= otter.keys()
    clip = to_transformers_names({name.removeprefix("vision_encoder."): tensor for name, tensor in vision.items()})
    otter |= {f"vision_encoder.vision_model.{name}": tensor for name, tensor in clip.items()}
    folder = tmp_path / "otter"
    folder.mkdir()
    torch.save(otter, folder / "pytorch_model-00001-of-00001.bin")
    assert checkpoint_from_openflamingo(folder, tmp_path / "checkpoint", recipe) == []
    converted = ours(tmp_path / "checkpoint")
    assert converted.config.num_new_tokens == 3
    assert largest_difference(converted, model, eoc, image) < 1e-5
