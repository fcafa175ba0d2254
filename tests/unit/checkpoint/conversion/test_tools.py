"""The conversion tools on damaged input: one clear line, exit code 1, and nothing half-made."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_ds.checkpoint.names import index_name, shard_name
from tests.tiny import tiny_llama, tiny_tokenizer

TOOLS = Path(__file__).parents[4] / "tools"
WEIGHTS = shard_name("weight", 0, 1)


@pytest.fixture
def tool(capsys, monkeypatch):
    """Run a tool as its user does: exit code, and what it prints to stdout and stderr."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOLS / f"{name}.py"), run_name="__main__")
        output = capsys.readouterr()
        return ended.value.code, output.out, output.err

    return run


def in_two_files(path):
    """As two ranks would have written it."""
    weights = load_file(path / WEIGHTS)
    names = sorted(weights)
    weight_map = {}
    for rank, part in enumerate((names[::2], names[1::2])):
        file = shard_name("weight", rank, 2)
        save_file({name: weights[name] for name in part}, path / file, {"step": "2"})
        weight_map |= dict.fromkeys(part, file)
    (path / WEIGHTS).unlink()
    (path / index_name("weight")).write_text(json.dumps({"weight_map": weight_map}))


def swap(path):
    in_two_files(path)
    one, other = path / shard_name("weight", 0, 2), path / shard_name("weight", 1, 2)
    one.rename(path / "aside")
    other.rename(one)
    (path / "aside").rename(other)


def cut(path):
    (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-100])


def of_another_step(path):
    save_file(load_file(path / WEIGHTS), path / WEIGHTS, {"step": "1"})


def point_to(path, base):
    recipe = path / "recipe.yaml"
    source = next(line for line in recipe.read_text().splitlines() if line.strip().startswith("source:")).strip()
    recipe.write_text(recipe.read_text().replace(source, f"source: {base}", 1))


def other_base(path):
    tokenizer, base = tiny_tokenizer(), path.parent / "other-lm"
    tiny_llama(5, vocab_size=len(tokenizer)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    point_to(path, base)


DAMAGES = {
    "missing shard": (lambda path: (path / WEIGHTS).unlink(), f"{WEIGHTS}': expected a file, as weight.safetensors"),
    "truncated": (cut, "expected a whole safetensors file; weight-00000-of-00001.safetensors has "),
    "swapped rank files": (swap, "-of-00002.safetensors': expected the file of "),
    "of another step": (of_another_step, f"{WEIGHTS}': expected a file of step 2, not 1"),
    "wrong base": (other_base, "frozen base = "),
    "no base": (lambda path: point_to(path, "/no/such/lm"), "model.language_model.source = '/no/such/lm': expected"),
    "no index": (lambda path: (path / index_name("weight")).unlink(), "weight.safetensors.index.json"),
    "no model": (lambda path: shutil.rmtree(path / "model"), "model"),
    "damaged recipe": (lambda path: (path / "recipe.yaml").write_text("a: [1"), "recipe.yaml"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_one_line(saved, tool, tmp_path, name):
    damage, message = DAMAGES[name]
    path = saved.copy(tmp_path / "bad")
    damage(path)
    code, out, err = tool("convert_to_hf", path, tmp_path / "hf")
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "hf").exists()


def test_an_earlier_export_survives_a_conversion_that_fails(saved, tool, tmp_path):
    assert tool("convert_to_hf", saved.path, tmp_path / "hf")[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()}
    path = saved.copy(tmp_path / "bad")
    cut(path)
    assert tool("convert_to_hf", path, tmp_path / "hf")[0] == 1
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()}


@pytest.fixture
def full_disk():
    """A command that runs where a folder is a file system of 100 KB."""
    if subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=False).returncode:
        pytest.skip("this kernel lets nobody make a namespace for a small file system")
    script = 'mount -t tmpfs -o size=100k tmpfs "$1" && shift && "$@"; code=$?; ls -A "$OUT_FOLDER"; exit $code'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]


def test_a_full_disk(saved, full_disk, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [*full_disk, folder, sys.executable, TOOLS / "convert_to_hf.py", saved.path, folder / "hf"]
    environment = {"OUT_FOLDER": str(folder), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOOLS.parent)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines == [
        f"error: {folder / 'hf'} could not be written: [Errno 28] No space left on device; nothing there was changed"
    ], done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == "hf.partial"  # to go on from, when there is space


def test_there_and_back_by_the_command_line(saved, tool, tmp_path):
    code, out, _ = tool("convert_to_hf", saved.path, tmp_path / "hf", "--dtype", "fp16", "--max-shard-size", "30KB")
    assert code == 0
    assert out.startswith(f"wrote {tmp_path / 'hf'}: ")
    assert load_file(sorted((tmp_path / "hf").glob("*.safetensors"))[0]).popitem()[1].dtype == torch.float16
    code, out, _ = tool("convert_from_hf", tmp_path / "hf", tmp_path / "back", "seed=3")
    assert code == 0
    assert out == f"wrote {tmp_path / 'back'}; go on with --resume {tmp_path / 'back'}\n"
    for path in (tmp_path / "hf", tmp_path / "back"):
        assert tool("inspect_checkpoint", path)[0] == 0


def test_a_trained_part_alone_has_no_logits_to_compare(saved, tool, tmp_path):
    code, out, _ = tool("convert_to_hf", saved.path, tmp_path / "hf", "--trainable-only", "--verify")
    assert code == 0
    assert f"verified: {len(saved.state)} tensors as written; no logits to compare" in out


def test_bad_input_to_the_other_tools(saved, tool, tmp_path):
    for name, arguments, expected in [
        ("convert_from_hf", (tmp_path, tmp_path / "back"), "error: MODEL = "),
        ("convert_to_hf", (tmp_path / "none", tmp_path / "hf"), "a checkpoint folder; it has no checkpoint.json"),
        ("convert_to_hf", (saved.path, tmp_path / "hf", "--format", "idefics"), "model.style = 'paper'"),
        ("convert_to_hf", (saved.path, tmp_path / "hf", "--format", "openflamingo"), "model (style) = 'paper'"),
        ("convert_openflamingo", ("export", saved.path, tmp_path / "of.pt"), "model (style) = 'paper'"),
    ]:
        code, _, err = tool(name, *arguments)
        assert code == 1, err
        assert expected in err
        assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
    code, _, err = tool("convert_to_hf", saved.path, tmp_path / "hf", "--max-shard-size", "much")
    assert code == 2
    assert "--max-shard-size: 'much'; expected a number with KB, MB, GB or TB behind it" in err
    code, _, err = tool("convert_openflamingo", "import", tmp_path / "x.pt", tmp_path / "out", "--recipe", "no-such")
    assert code == 2
    assert "--recipe = 'no-such'" in err
