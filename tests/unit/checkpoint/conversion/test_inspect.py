"""What a path is and what is broken in it, from headers alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_ds.checkpoint.conversion.inspect import inspect
from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions, export_checkpoint
from flamingo_ds.checkpoint.names import shard_name
from flamingo_ds.config import ConfigError

ROOT = Path(__file__).parents[4]


def test_a_checkpoint(saved):
    report = inspect(saved.path)
    assert report.kind == "training checkpoint of flamingo_ds"
    assert (report.facts["step"], report.facts["layout"]) == (2, "one process")
    assert report.facts["weight"] == f"{len(saved.state)} tensors in 1 files"
    assert not report.problems


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: (path / shard_name("exp_avg", 0, 1)).unlink(), "exp_avg-00000-of-00001.safetensors is missing"),
        (lambda path: cut(path / shard_name("weight", 0, 1)), "its header says"),
        (lambda path: (path / shard_name("weight", 0, 1)).write_bytes(b"nothing"), "is no safetensors file"),
        (
            lambda path: of_step(path / shard_name("exp_avg", 0, 1), 1),
            "exp_avg-00000-of-00001.safetensors is of step 1",
        ),
        (lambda path: (path / "ranks/0000.pt").unlink(), "ranks/0000.pt is missing"),
        (lambda path: (path / "data/0000.json").unlink(), "data/0000.json is missing"),
        (lambda path: (path / "weight.safetensors.index.json").unlink(), "weight.safetensors.index.json is missing"),
    ],
    ids=["no file", "cut", "no header", "another step", "no rank", "no data", "no index"],
)
def test_what_is_broken_in_a_checkpoint(saved, tmp_path, damage, problem):
    path = saved.copy(tmp_path / "bad")
    damage(path)
    assert any(problem in line for line in inspect(path).problems), inspect(path).problems


def of_step(path, step):
    save_file(load_file(path), path, {"step": str(step)})


def test_an_otter_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "flamingo"}))
    torch.save({"perceiver.latents": torch.zeros(4, 8)}, tmp_path / "pytorch_model-00001-of-00001.bin")
    report = inspect(tmp_path)
    assert (report.kind, report.facts["weights"], report.problems) == ("Otter folder", "1 tensors", [])
    (tmp_path / "pytorch_model-00001-of-00001.bin").write_bytes(b"cut")
    assert len(inspect(tmp_path).problems) == 2


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def test_an_export(saved, tmp_path):
    folder = export_checkpoint(saved.path, tmp_path / "hf", ExportOptions(max_shard_size="20KB"))
    report = inspect(folder)
    assert report.kind == "model folder of flamingo_ds"
    assert report.facts["dtype"] == "float32"
    assert not report.problems
    shard = sorted(folder.glob("model-*.safetensors"))[2]
    shard.unlink()
    assert f"{shard.name} is missing" in inspect(folder).problems


def test_an_openflamingo_file(tmp_path):
    state = {"perceiver.latents": torch.zeros(4, 8)}
    state |= {f"lang_encoder.model.layers.{n}.gated_cross_attn_layer.attn_gate": torch.zeros(1) for n in (3, 7)}
    torch.save(
        {"epoch": 2, "model_state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        tmp_path / "of.pt",
    )
    report = inspect(tmp_path / "of.pt")
    assert report.kind == "OpenFlamingo file"
    assert report.facts["gated blocks before LM blocks"] == [3, 7]
    assert report.facts["parameters"] == 34


def test_anything_else(tmp_path):
    with pytest.raises(ConfigError, match="a checkpoint"):
        inspect(tmp_path)
    (tmp_path / "x.pt").write_bytes(b"no pickle")
    with pytest.raises(ConfigError, match="a whole file of torch.save"):
        inspect(tmp_path / "x.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "y.pt")
    with pytest.raises(ConfigError, match="perceiver and lang_encoder"):
        inspect(tmp_path / "y.pt")
    (tmp_path / "checkpoint.json").write_text(json.dumps([1]))
    with pytest.raises(ConfigError, match="a JSON object"):
        inspect(tmp_path)


def test_an_answer_does_not_wait_for_torch(saved):
    """Its import alone takes seconds."""
    script = (
        "import sys; from pathlib import Path; from flamingo_ds.checkpoint.conversion.inspect import inspect;"
        "assert not inspect(Path(sys.argv[1])).problems; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script, str(saved.path)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
