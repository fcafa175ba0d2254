import json
import os
import random
import shutil

import numpy
import pytest
import torch
from safetensors import safe_open

from flamingo_ds.checkpoint.mapped_file import MappedFile
from flamingo_ds.checkpoint.names import STATE_KINDS, index_name, shard_name
from flamingo_ds.checkpoint.store import Checkpoint, find_checkpoint
from flamingo_ds.config import ConfigError, load_recipe


def draw():
    """One number from every generator."""
    return torch.rand(()).item(), random.random(), numpy.random.random()


def refused(call, message):
    with pytest.raises(ConfigError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def read_all(checkpoint):
    return {name: dict(parts) for name, parts in checkpoint.state().items()}


def test_what_was_saved_comes_back(saved):
    checkpoint = saved.load()
    assert (checkpoint.step, checkpoint.ranks, checkpoint.data_ranks) == (2, 1, 1)
    assert checkpoint.data_states() == [{"mixture": {"pairs": {"shard": 3}}}]
    assert torch.equal(checkpoint.reference()["logits"], torch.ones(2, 3))
    found = read_all(checkpoint)
    assert found.keys() == saved.state.keys()
    for name, parts in saved.state.items():
        assert parts.keys() == found[name].keys()
        assert all(torch.equal(part, found[name][kind]) for kind, part in parts.items()), name
        assert torch.equal(checkpoint.weights()[name], parts["weight"])
    assert checkpoint.weights().keys() == found.keys()
    assert load_recipe(str(checkpoint.path / "recipe.yaml")) == saved.recipe


def test_nothing_frozen_and_no_pickle_of_tensors_is_on_disk(saved):
    trainable = {name for name, parameter in saved.model.named_parameters() if parameter.requires_grad}
    for kind in STATE_KINDS:
        with safe_open(saved.path / shard_name(kind, 0, 1), framework="pt") as file:
            assert set(file.keys()) == trainable
        index = json.loads((saved.path / index_name(kind)).read_text(encoding="utf-8"))
        assert index["weight_map"] == dict.fromkeys(sorted(trainable), f"{kind}-00000-of-00001.safetensors")
        assert index["metadata"]["total_size"] == sum(parts[kind].nbytes for parts in saved.state.values())
    assert sorted(str(path.relative_to(saved.path)) for path in saved.path.rglob("*.pt")) == ["ranks/0000.pt"]


def test_the_folder_is_whole_and_latest_points_to_it(saved):
    folder = saved.path.parent
    assert sorted(os.listdir(folder)) == ["latest", "step-00000002"]
    assert os.readlink(folder / "latest") == "step-00000002"
    assert Checkpoint(folder / "latest").path == saved.path
    of_files = {f"{kind}{end}" for kind in STATE_KINDS for end in (".safetensors.index.json", shard_name("", 0, 1))}
    rest = {"checkpoint.json", "recipe.yaml", "model", "reference.safetensors", "data", "ranks"}
    assert set(os.listdir(saved.path)) == of_files | rest


def test_what_is_not_asked_for_is_not_read(saved, tmp_path):
    """Two of three files are no safetensors at all: only who asks for them finds out."""
    path = saved.copy(tmp_path / "half")
    for kind in STATE_KINDS[1:]:
        (path / shard_name(kind, 0, 1)).write_bytes(b"")
    state = Checkpoint(path).state()
    for name, parts in saved.state.items():
        assert torch.equal(state[name]["weight"], parts["weight"])
    refused(lambda: state[name]["exp_avg"], "exp_avg-00000-of-00001.safetensors.*a whole safetensors file; ")


def test_a_file_is_opened_once(saved, monkeypatch):
    from flamingo_ds.checkpoint import tensor_files

    opened = []

    def counting(path):
        opened.append(path.name)
        return MappedFile(path)

    monkeypatch.setattr(tensor_files, "MappedFile", counting)
    state = saved.load().state()
    assert opened == []
    for _ in range(2):
        for parts in state.values():
            dict(parts)
    assert sorted(opened) == sorted(shard_name(kind, 0, 1) for kind in STATE_KINDS)


def test_an_unknown_name_is_a_key_error(saved):
    with pytest.raises(KeyError):
        saved.load().state()["no.such.name"]
    with pytest.raises(KeyError):
        saved.load().weights()["no.such.name"]


def test_random_states_go_on_where_they_were(saved):
    assert saved.load().restore_random_states(0, 1)
    first = draw()
    assert draw() != first
    assert saved.load().restore_random_states(0, 1)
    assert draw() == first


def test_random_states_of_another_number_of_ranks_are_left_alone(saved):
    saved.load().restore_random_states(0, 1)
    first = draw()
    saved.load().restore_random_states(0, 1)
    assert not saved.load().restore_random_states(0, 2)
    assert not saved.load().restore_random_states(1, 2)
    assert draw() == first


def test_no_checkpoint(tmp_path):
    refused(lambda: Checkpoint(tmp_path), "checkpoint = .*a checkpoint folder; it has no checkpoint.json")
    refused(lambda: Checkpoint(tmp_path / "nowhere"), "it has no checkpoint.json")
    refused(lambda: Checkpoint(tmp_path / "nowhere" / "latest"), "it has no checkpoint.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": 2, "step"', "valid JSON: "),
        (b"", "valid JSON: "),
        (b"\xff\xfe\x00", "valid JSON: "),
        (b"[1, 2]", "a JSON object; it is a list"),
        (b'{"format": 1, "step": 2}', "format 2; it has format 1"),
        (b'{"step": 2}', "format 2; it has format None"),
        (b'{"format": 2, "step": "2", "ranks": 1, "data_ranks": 1}', "a file with a number of step"),
        (b'{"format": 2, "step": 2, "ranks": 1}', "a file with a number of data_ranks"),
    ],
)
def test_another_or_a_broken_description(saved, tmp_path, content, message):
    path = saved.copy(tmp_path / "bad")
    (path / "checkpoint.json").write_bytes(content)
    refused(lambda: Checkpoint(path), message)


@pytest.mark.parametrize("kind", [*STATE_KINDS, "reference"])
@pytest.mark.parametrize("size", [0, 4, 20, -1])
def test_truncated_tensors(saved, tmp_path, kind, size):
    path = saved.copy(tmp_path / "bad")
    name = "reference.safetensors" if kind == "reference" else shard_name(kind, 0, 1)
    (path / name).write_bytes((path / name).read_bytes()[:size])
    checkpoint = Checkpoint(path)
    read = checkpoint.reference if kind == "reference" else lambda: read_all(checkpoint)
    refused(read, f"checkpoint = .*{name}.*a whole safetensors file")


@pytest.mark.parametrize("kind", STATE_KINDS)
def test_a_missing_file_is_found_before_any_is_read(saved, tmp_path, kind):
    path = saved.copy(tmp_path / "bad")
    (path / shard_name(kind, 0, 1)).unlink()
    message = f"{kind}-00000-of-00001.safetensors.*a file, as {kind}.safetensors.index.json says"
    refused(Checkpoint(path).state, message)


def test_a_missing_reference(saved, tmp_path):
    path = saved.copy(tmp_path / "bad")
    (path / "reference.safetensors").unlink()
    refused(Checkpoint(path).reference, "reference.safetensors.*a whole safetensors file; ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "valid JSON: "),
        ("", "valid JSON: "),
        ("{}", "an index with a weight_map"),
        ('{"weight_map": ["a"]}', "an index with a weight_map"),
        ('{"weight_map": {"a": 1}}', "an index with a weight_map"),
        ('{"weight_map": {"a": "../../checkpoint.json"}}', "a file, as exp_avg.safetensors.index.json says"),
        ('{"weight_map": {"a": "exp_avg-00000-of-00001.safetensors"}}', "the names of weight; .* is in one"),
    ],
)
def test_a_damaged_index(saved, tmp_path, content, message):
    path = saved.copy(tmp_path / "bad")
    index = path / index_name("exp_avg")
    if content is None:
        index.unlink()
    else:
        index.write_text(content, encoding="utf-8")
    refused(Checkpoint(path).state, message)


def test_a_name_that_the_index_has_and_the_file_has_not(saved, tmp_path):
    path = saved.copy(tmp_path / "bad")
    for kind in STATE_KINDS:
        index = json.loads((path / index_name(kind)).read_text(encoding="utf-8"))
        index["weight_map"]["a.ghost"] = shard_name(kind, 0, 1)
        (path / index_name(kind)).write_text(json.dumps(index), encoding="utf-8")
    refused(
        lambda: Checkpoint(path).state()["a.ghost"]["weight"],
        "the file of a.ghost, as weight.safetensors.index.json says",
    )


def test_a_rank_s_files(saved, tmp_path):
    path = saved.copy(tmp_path / "bad")
    for name in ("data/0000.json", "ranks/0000.pt"):
        file = path / name
        file.write_bytes(file.read_bytes()[:10])
    refused(lambda: Checkpoint(path).data_states(), "0000.json.*valid JSON: ")
    refused(lambda: Checkpoint(path).restore_random_states(0, 1), "0000.pt.*a rank's random states: ")
    shutil.rmtree(path / "ranks")
    refused(lambda: Checkpoint(path).restore_random_states(0, 1), "0000.pt.*a rank's random states: FileNotFound")


def test_a_pickle_that_runs_code_is_not_run(saved, tmp_path):
    path = saved.copy(tmp_path / "bad")
    torch.save({"torch": Touch(str(tmp_path / "ran"))}, path / "ranks" / "0000.pt")
    refused(lambda: Checkpoint(path).restore_random_states(0, 1), "a rank's random states: UnpicklingError")
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
    assert find_checkpoint(tmp_path / "nowhere", "") is None
    refused(lambda: find_checkpoint(folder, None), "run_dir = .*--resume to go on from step-00000002")
    refused(lambda: find_checkpoint(folder, str(tmp_path)), "it has no checkpoint.json")


def folder_of(saved, folder, names, latest):
    folder.mkdir()
    for name in names:
        saved.copy(folder / name)
    if latest is not None:
        (folder / "latest").symlink_to(latest)
    return folder


@pytest.mark.parametrize(
    ("names", "latest", "chosen"),
    [
        # latest decides, whatever else is there.
        (["step-00000002", "step-00000004", "step-00000006.partial"], "step-00000002", "step-00000002"),
        # Killed before the first link.
        (["step-00000002"], None, "step-00000002"),
        # Killed while what latest points to was being replaced; the newer one is of a run that was left.
        (["step-00000002.old", "step-00000002.partial", "step-00000004"], "step-00000002", "step-00000002.old"),
        # Killed behind it.
        (["step-00000002.old", "step-00000002"], "step-00000002", "step-00000002"),
        # Someone deleted what latest points to.
        (["step-00000002", "step-00000004", "step-00000006.x.removing"], "step-00000008", "step-00000004"),
        (["step-00000002.partial", "step-00000004.x.removing", "notes"], None, None),
        (["step-00000002.partial"], "step-00000002", None),
    ],
)
def test_what_a_killed_run_left_is_read_rightly(saved, tmp_path, names, latest, chosen):
    folder = folder_of(saved, tmp_path / "checkpoints", names, latest)
    before = sorted(os.listdir(folder))
    found = find_checkpoint(folder, "")
    assert (found and found.path.name) == chosen
    if chosen is not None:
        assert Checkpoint(folder / "latest").path.name == chosen  # as an export names it
        refused(lambda: find_checkpoint(folder, None), f"--resume to go on from {chosen}")
        assert read_all(found).keys() == saved.state.keys()
    assert sorted(os.listdir(folder)) == before


def test_what_the_description_says(saved):
    about = json.loads((saved.path / "checkpoint.json").read_text(encoding="utf-8"))
    assert (about["format"], about["step"], about["ranks"], about["layout"]) == (2, 2, 1, "one process")
    assert about["base"]["language_model"] == saved.recipe.model.language_model.source
