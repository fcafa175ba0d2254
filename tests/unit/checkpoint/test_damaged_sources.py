"""Folders of language models that are not what they should be: read as transformers does, or refused in a line."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_ds.checkpoint.pretrained import TokenIds, build_model, build_processor, describe_model
from flamingo_ds.config import ConfigError
from tests.tiny import write_tiny_backbones

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def edit(folder, change):
    weights = load_file(folder / FILE)
    save_file(change(weights), folder / FILE, {"format": "pt"})


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def split(folder):
    weights = load_file(folder / FILE)
    (folder / FILE).unlink()
    names = sorted(weights)
    halves = names[:5], names[5:]
    for shard, half in zip(SHARDS, halves, strict=True):
        save_file({name: weights[name] for name in half}, folder / shard, {"format": "pt"})
    weight_map = {name: shard for shard, half in zip(SHARDS, halves, strict=True) for name in half}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def miss_a_shard(folder):
    split(folder)
    (folder / SHARDS[1]).unlink()


def misname_a_shard(folder):
    split(folder)
    content = json.loads((folder / INDEX).read_text())
    content["weight_map"]["model.norm.weight"] = SHARDS[0]
    (folder / INDEX).write_text(json.dumps(content))


def cut_a_shard(folder):
    split(folder)
    cut(folder / SHARDS[1])


def empty_index(folder):
    split(folder)
    (folder / INDEX).write_text("{}")


def to_bin(folder):
    torch.save(load_file(folder / FILE), folder / "pytorch_model.bin")
    (folder / FILE).unlink()


def cut_bin(folder):
    to_bin(folder)
    cut(folder / "pytorch_model.bin")


def evil_bin(folder):
    (folder / FILE).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil(folder / "was-run")}))


def nonsense_dtype(folder):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"dtype": "float99"}))


BARE = "model."
READ = {
    "extra tensor": lambda folder: edit(folder, lambda weights: weights | {"extra": torch.ones(3)}),
    "two files": split,
    "a .bin": to_bin,
    "saved without the head's prefix": lambda folder: edit(
        folder, lambda weights: {name.removeprefix(BARE): tensor for name, tensor in weights.items()}
    ),
}
REFUSED = {
    "missing tensor": (
        lambda folder: edit(folder, lambda weights: {k: v for k, v in weights.items() if k != "model.norm.weight"}),
        "1 weights are not there, such as model.norm.weight",
    ),
    "wrong shape": (
        lambda folder: edit(folder, lambda weights: weights | {"model.norm.weight": torch.ones(7)}),
        r"model.norm.weight is \(7,\), not \(32,\)",
    ),
    "saved without its head": (
        lambda folder: edit(
            folder, lambda weights: {k.removeprefix(BARE): v for k, v in weights.items() if k.startswith(BARE)}
        ),
        "1 weights are not there, such as lm_head.weight",
    ),
    "truncated": (lambda folder: cut(folder / FILE), "bytes; its header says"),
    "missing shard": (miss_a_shard, f"No such file or directory: .*{SHARDS[1]}"),
    "tensor in another shard": (misname_a_shard, "does not hold model.norm.weight, as the index says"),
    "truncated shard": (cut_a_shard, "bytes; its header says"),
    "index without a map": (empty_index, "there is no 'weight_map'"),
    "truncated .bin": (cut_bin, "expected causal language model weights; "),
    "pickle of more than tensors": (evil_bin, "a pickle that is damaged or holds more than tensors"),
    "made-up dtype": (nonsense_dtype, "float99"),
}


def built(recipe):
    return build_model(describe_model(recipe, TokenIds.of(build_processor(recipe))), recipe, 0)


@pytest.mark.parametrize("case", READ)
def test_read_all_the_same(case, tmp_path):
    recipe = write_tiny_backbones(tmp_path)
    wanted = built(recipe).language_model.state_dict()
    READ[case](tmp_path / "lm")
    found = built(recipe).language_model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case, tmp_path):
    damage, message = REFUSED[case]
    recipe = write_tiny_backbones(tmp_path)
    damage(tmp_path / "lm")
    with pytest.raises(ConfigError, match=message) as caught:
        built(recipe)
    assert caught.value.key == "model.language_model.source"
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "lm/was-run").exists()
