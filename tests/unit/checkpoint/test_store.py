import json
import os
import random

import numpy
import pytest
import torch
from safetensors import safe_open

from flamingo_ds.checkpoint.store import STATE_FILES, Checkpoint, find_checkpoint
from flamingo_ds.config import ConfigError, load_recipe


def draw():
    """One number from every generator."""
    return torch.rand(()).item(), random.random(), numpy.random.random()


def refused(call, message):
    with pytest.raises(ConfigError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_was_saved_comes_back(saved):
    checkpoint = saved.load()
    assert checkpoint.step == 2
    assert checkpoint.data_state(0) == {"mixture": {"pairs": {"shard": 3}}}
    assert torch.equal(checkpoint.reference()["logits"], torch.ones(2, 3))
    found = dict(checkpoint.state())
    assert found.keys() == saved.state.keys()
    for name, parts in saved.state.items():
        assert parts.keys() == found[name].keys()
        assert all(torch.equal(part, found[name][kind]) for kind, part in parts.items()), name
    assert checkpoint.weights().keys() == found.keys()
    assert load_recipe(str(checkpoint.path / "recipe.yaml")) == saved.recipe


def test_nothing_frozen_and_no_pickle_of_tensors_is_on_disk(saved):
    trainable = {name for name, parameter in saved.model.named_parameters() if parameter.requires_grad}
    for kind in STATE_FILES:
        with safe_open(saved.path / f"{kind}.safetensors", framework="pt") as file:
            assert set(file.keys()) == trainable
    assert sorted(str(path.relative_to(saved.path)) for path in saved.path.rglob("*.pt")) == ["ranks/0000.pt"]


def test_the_folder_is_whole_and_latest_points_to_it(saved):
    folder = saved.path.parent
    assert sorted(os.listdir(folder)) == ["latest", "step-00000002"]
    assert os.readlink(folder / "latest") == "step-00000002"
    assert Checkpoint(folder / "latest").path == saved.path


def test_random_states_go_on_where_they_were(saved):
    saved.load().restore_random_states(0)
    first = draw()
    assert draw() != first
    saved.load().restore_random_states(0)
    assert draw() == first


def test_no_checkpoint(tmp_path):
    refused(lambda: Checkpoint(tmp_path), "checkpoint = .*a checkpoint folder; it has no checkpoint.json")
    refused(lambda: Checkpoint(tmp_path / "nowhere"), "it has no checkpoint.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": 1, "step"', "valid JSON: "),
        (b"", "valid JSON: "),
        (b"\xff\xfe\x00", "valid JSON: "),
        (b"[1, 2]", "a JSON object; it is a list"),
        (b'{"format": 2, "step": 2}', "format 1; it has format 2"),
        (b'{"step": 2}', "format 1; it has format None"),
    ],
)
def test_another_or_a_broken_description(saved, tmp_path, content, message):
    path = saved.copy(tmp_path / "bad")
    (path / "checkpoint.json").write_bytes(content)
    refused(lambda: Checkpoint(path), message)


@pytest.mark.parametrize("kind", [*STATE_FILES, "reference"])
@pytest.mark.parametrize("size", [None, 0, 4, 20, -1])
def test_truncated_tensors(saved, tmp_path, kind, size):
    path = saved.copy(tmp_path / "bad")
    file = path / f"{kind}.safetensors"
    if size is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:size])
    checkpoint = Checkpoint(path)
    read = checkpoint.reference if kind == "reference" else lambda: list(checkpoint.state())
    refused(read, f"checkpoint = .*{kind}.safetensors.*a whole safetensors file: ")


def test_a_rank_s_files(saved, tmp_path):
    path = saved.copy(tmp_path / "bad")
    refused(lambda: Checkpoint(path).data_state(1), "0001.json.*valid JSON: ")
    refused(lambda: Checkpoint(path).restore_random_states(1), "0001.pt.*a rank's random states: ")
    for name in ("0000.json", "0000.pt"):
        file = path / "ranks" / name
        file.write_bytes(file.read_bytes()[:10])
    refused(lambda: Checkpoint(path).data_state(0), "0000.json.*valid JSON: ")
    refused(lambda: Checkpoint(path).restore_random_states(0), "0000.pt.*a rank's random states: ")


def test_a_pickle_that_runs_code_is_not_run(saved, tmp_path):
    path = saved.copy(tmp_path / "bad")
    torch.save({"torch": Touch(str(tmp_path / "ran"))}, path / "ranks" / "0000.pt")
    refused(lambda: Checkpoint(path).restore_random_states(0), "a rank's random states: UnpicklingError")
    assert not (tmp_path / "ran").exists()


class Touch:
    """Unpickling this makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_which_checkpoint_to_go_on_from(saved, tmp_path):
    folder = saved.path.parent
    assert find_checkpoint(folder, "").path == saved.path
    assert find_checkpoint(tmp_path, str(saved.path)).path == saved.path
    assert find_checkpoint(tmp_path, "") is None
    assert find_checkpoint(tmp_path, None) is None
    refused(lambda: find_checkpoint(folder, None), "run_dir = .*--resume to go on from step-00000002")
    refused(lambda: find_checkpoint(folder, str(tmp_path)), "it has no checkpoint.json")


def test_what_the_description_says(saved):
    about = json.loads((saved.path / "checkpoint.json").read_text(encoding="utf-8"))
    assert (about["format"], about["step"], about["ranks"], about["layout"]) == (1, 2, 1, "one process")
    assert about["base"]["language_model"] == saved.recipe.model.language_model.source
