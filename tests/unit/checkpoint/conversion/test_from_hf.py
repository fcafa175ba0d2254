"""A published folder back into a checkpoint, and out again: the same bytes."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_ds.checkpoint.conversion.from_hf import checkpoint_from_hf
from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions, export_checkpoint
from flamingo_ds.checkpoint.store import Checkpoint
from flamingo_ds.config import ConfigError


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("trainable_only", [False, True])
def test_there_and_back_are_the_same_bytes(saved, tmp_path, dtype, trainable_only):
    options = ExportOptions(dtype, trainable_only=trainable_only)
    first = export_checkpoint(saved.path, tmp_path / "first", options)
    back = checkpoint_from_hf(first, tmp_path / "back", [])
    second = export_checkpoint(back, tmp_path / "second", options)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_a_checkpoint_to_go_on_from(saved, tmp_path):
    folder = export_checkpoint(saved.path, tmp_path / "hf", ExportOptions())
    checkpoint = Checkpoint(checkpoint_from_hf(folder, tmp_path / "back", []))
    assert (checkpoint.step, checkpoint.data_states()) == (0, [])
    assert checkpoint.about["base"] == saved.load().about["base"]
    state = checkpoint.state()
    assert state.keys() == saved.state.keys()
    for name, tensors in saved.state.items():
        assert torch.equal(state[name]["weight"], tensors["weight"]), name
        assert not state[name]["exp_avg"].any()
        assert state[name]["exp_avg_sq"].shape == tensors["weight"].shape


def test_another_base_is_refused_by_the_weight_that_differs(saved, tmp_path):
    folder = export_checkpoint(saved.path, tmp_path / "hf", ExportOptions())
    weights = load_file(folder / "model.safetensors")
    weights["language_model.model.norm.weight"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"language_model.model.norm.weight is another there"):
        checkpoint_from_hf(folder, tmp_path / "back", [])
    assert not (tmp_path / "back").exists()


def test_damaged_and_foreign_folders(saved, tmp_path):
    with pytest.raises(ConfigError, match="it has no recipe.yaml"):
        checkpoint_from_hf(tmp_path, tmp_path / "back", [])
    folder = export_checkpoint(saved.path, tmp_path / "hf", ExportOptions())
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="a whole safetensors file"):
        checkpoint_from_hf(folder, tmp_path / "back", [])
    file.unlink()
    with pytest.raises(ConfigError, match="a folder with weights"):
        checkpoint_from_hf(folder, tmp_path / "back", [])
    file.write_bytes(whole)
    weights = load_file(file)
    del weights["resampler.latents"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"resampler.latents = .*|resampler.latents"):
        checkpoint_from_hf(folder, tmp_path / "back", [])


def test_the_base_may_have_moved(saved, tmp_path):
    folder = export_checkpoint(saved.path, tmp_path / "hf", ExportOptions())
    moved = shutil.copytree(saved.recipe.model.language_model.source, tmp_path / "moved")
    back = checkpoint_from_hf(folder, tmp_path / "back", [f"model.language_model.source={moved}"])
    assert json.loads((back / "checkpoint.json").read_text())["base"]["language_model"] == str(moved)
