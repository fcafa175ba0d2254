"""Streamed from safetensors or read by from_pretrained: the same weights, bit for bit, or a line that says why not."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, CLIPConfig, CLIPModel, CLIPVisionModel

from flamingo_ds.checkpoint import language_source, vision_source
from flamingo_ds.checkpoint.backbone_weights import StreamedWeights, WholeWeights, load_persistent_buffers, stream
from flamingo_ds.checkpoint.mapped_file import MappedFile
from flamingo_ds.config import ConfigError
from flamingo_ds.config.schema import LanguageModelConfig, Library, VisionEncoderConfig
from flamingo_ds.parallel import parameters_on_meta
from tests.tiny import FAMILIES, tiny_llama, tiny_text_config, tiny_vision_config


def save(folder, family="llama", shard="5GB", **changes):
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(tiny_text_config(family, **changes))
    model.save_pretrained(folder, max_shard_size=shard)
    return model


def weights_of(folder):
    """As a run gets them, and the skeleton that asks."""
    source = LanguageModelConfig(source=str(folder))
    with parameters_on_meta():
        skeleton = AutoModelForCausalLM.from_config(language_source.text_config(source))
    return language_source.weights(source, skeleton, seed=0), skeleton


def rewrite(folder, change):
    """Rename or drop tensors of the one safetensors file."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


@pytest.mark.parametrize("shard", ["5GB", "50KB"], ids=["single", "sharded"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_streamed_is_what_from_pretrained_reads(tmp_path, family, shard):
    save(tmp_path, family, shard)
    found, skeleton = weights_of(tmp_path)
    assert isinstance(found, StreamedWeights)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "50KB")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    for name, parameter in skeleton.named_parameters():
        tensor = found.stored(name).value()
        assert torch.equal(tensor, loaded.get_parameter(name)), name
        assert tensor.dtype == loaded.get_parameter(name).dtype
        assert found.shape(name) == parameter.shape
        assert found.has(name)
    assert not found.has("no.such.weight")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_saved_without_its_head_s_prefix(tmp_path, family):
    """As GPT-2 lies on the hub: the base model alone, with the head its embedding."""
    model = save(tmp_path, family, tie_word_embeddings=True)
    prefix = f"{model.base_model_prefix}."
    rewrite(tmp_path, lambda state: {name.removeprefix(prefix): tensor for name, tensor in state.items()})
    found, skeleton = weights_of(tmp_path)
    assert isinstance(found, StreamedWeights)
    for name, _ in skeleton.named_parameters():
        assert torch.equal(found.stored(name).value(), model.get_parameter(name)), name


def test_a_tied_head_is_not_asked_for(tmp_path):
    model = save(tmp_path, tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    found, skeleton = weights_of(tmp_path)
    assert "lm_head.weight" not in dict(skeleton.named_parameters())
    assert torch.equal(found.stored("model.embed_tokens.weight").value(), model.lm_head.weight)


def test_a_tied_matrix_under_its_head_s_name_alone(tmp_path):
    """No parameter is called so: from_pretrained knows that it is the embedding, or says what is missing."""
    save(tmp_path, tie_word_embeddings=True)
    rewrite(tmp_path, lambda state: {n.replace("model.embed_tokens", "lm_head"): tensor for n, tensor in state.items()})
    found, _ = weights_of(tmp_path)
    assert isinstance(found, WholeWeights)


def test_the_dtype_that_the_configuration_says(tmp_path):
    save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    found, _ = weights_of(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").get_parameter(name)
    assert found.stored(name).value().dtype == loaded.dtype == torch.bfloat16
    assert torch.equal(found.stored(name).value(), loaded)


@pytest.mark.parametrize("kind", [CLIPModel, CLIPVisionModel])
def test_a_tower_alone_or_inside_a_whole_clip(tmp_path, kind):
    torch.manual_seed(3)
    vision = tiny_vision_config()
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    whole = CLIPConfig(vision_config=vision.to_dict(), text_config=text | {"vocab_size": 50}, projection_dim=16)
    clip = CLIPModel(whole) if kind is CLIPModel else CLIPVisionModel(vision)
    clip.save_pretrained(tmp_path)
    encoder = VisionEncoderConfig(library=Library.transformers, source=str(tmp_path))
    with parameters_on_meta():
        skeleton = CLIPVisionModel(vision_source.vision_config(encoder))
    found = vision_source.weights(encoder, skeleton, seed=0)
    assert isinstance(found, StreamedWeights)
    tower = clip.vision_model if kind is CLIPModel else clip
    for name, parameter in tower.named_parameters():
        assert torch.equal(found.stored(name).value(), parameter), name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state | {"model.norm.weight": torch.ones(5)}, r"model.norm.weight is \(5,\), not \(32,\)"),
        (lambda state: {n: t for n, t in state.items() if n != "model.norm.weight"}, "such as model.norm.weight"),
    ],
    ids=["wrong shape", "missing"],
)
def test_what_does_not_fit_is_told_when_it_is_read(tmp_path, change, reason):
    save(tmp_path)
    rewrite(tmp_path, change)
    found, _ = weights_of(tmp_path)
    assert isinstance(found, WholeWeights)
    with pytest.raises(ConfigError, match=f"model.language_model.source = .*{reason}"):
        found.stored("model.norm.weight").value()


def test_a_pickle_alone_is_read_by_from_pretrained(tmp_path):
    model = save(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    found, _ = weights_of(tmp_path)
    assert isinstance(found, WholeWeights)
    assert torch.equal(found.stored("lm_head.weight").value(), model.lm_head.weight)


def test_quantized_weights_are_refused(tmp_path):
    """Their names and shapes would fit; without their scales they are another model."""
    save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    quantized = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": quantized}))
    rewrite(tmp_path, lambda state: {n: t.to(torch.float8_e4m3fn) if t.ndim == 2 else t for n, t in state.items()})
    with pytest.raises(ConfigError, match=r"model.language_model.source = .*weights that are not quantized") as caught:
        weights_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_shard_that_is_not_there(tmp_path):
    save(tmp_path, shard="50KB")
    sorted(tmp_path.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(ConfigError, match=r"model.language_model.source = .*model-00002") as caught:
        weights_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_each_file_is_opened_once(tmp_path, monkeypatch):
    """A shared file system is asked by a thousand ranks."""
    from flamingo_ds.checkpoint import backbone_weights

    save(tmp_path, shard="50KB")
    opened = []
    monkeypatch.setattr(backbone_weights, "MappedFile", lambda path: (opened.append(path), MappedFile(path))[1])
    with parameters_on_meta():
        skeleton = AutoModelForCausalLM.from_config(tiny_text_config())
    found = stream(str(tmp_path), None, skeleton)
    for name, _ in skeleton.named_parameters():
        found.stored(name).value()
    assert sorted(opened) == sorted(set(opened))
    assert len(opened) == len(list(tmp_path.glob("model-*.safetensors")))


def test_whole_weights_are_loaded_once_and_draw_by_their_own_seed():
    builds = []

    def load():
        builds.append(1)
        model = tiny_llama()
        nn.init.normal_(model.lm_head.weight)
        return model

    before = torch.get_rng_state()
    weights = WholeWeights(lambda: nn.Sequential(nn.Linear(3, 3)), seed=4)
    other = WholeWeights(lambda: nn.Sequential(nn.Linear(3, 3)), seed=5)
    again = WholeWeights(lambda: nn.Sequential(nn.Linear(3, 3)), seed=4)
    assert torch.equal(weights.stored("0.weight").value(), again.stored("0.weight").value())
    assert not torch.equal(weights.stored("0.weight").value(), other.stored("0.weight").value())
    assert torch.equal(torch.get_rng_state(), before)
    lazy = WholeWeights(load, seed=0)
    assert not builds
    assert lazy.has("lm_head.weight")
    assert not lazy.has("head")
    lazy.stored("lm_head.weight").value()
    assert builds == [1]


def test_persistent_buffers_come_from_the_weights_and_others_stay():
    source = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    source[1].running_mean.fill_(3.0)
    source[1].num_batches_tracked.fill_(7)
    with parameters_on_meta():
        skeleton = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    skeleton[0].register_buffer("own", torch.ones(1))
    load_persistent_buffers(skeleton, WholeWeights(lambda: source, seed=0))
    assert (skeleton[1].running_mean == 3).all()
    assert skeleton[1].num_batches_tracked == 7
    assert skeleton[0].own == 1
    assert skeleton[0].weight.is_meta
