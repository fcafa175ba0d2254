import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_ds.checkpoint.conversion.outputs import Output
from flamingo_ds.checkpoint.conversion.shards import write_shard
from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions, export_checkpoint
from flamingo_ds.checkpoint.conversion.verify import verify_hashes
from flamingo_ds.checkpoint.mapped_file import MappedFile
from flamingo_ds.checkpoint.names import index_name, shard_name
from flamingo_ds.checkpoint.stored_tensor import StoredTensor
from flamingo_ds.config import ConfigError
from flamingo_ds.model import FlamingoForConditionalGeneration
from tests.tiny import tiny_image

TEXTS = ["<image>a red<EOC><image>a", "a picture<image>"]
# What a user does, in a process that cannot import the package.
USER = """
import sys
sys.modules["flamingo_ds"] = None
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, pictures, out = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
images = [Image.open(f"{pictures}/{index}.png") for index in range(3)]
inputs = processor(images=images, text=TEXTS)
with torch.no_grad():
    logits = model(**inputs).logits
tokens = model.generate(**processor(images=images[:1], text="<image>"), max_new_tokens=4, do_sample=False)
save_file({**inputs, "logits": logits, "tokens": tokens}, out)
""".replace("TEXTS", repr(TEXTS))


@pytest.fixture(scope="module")
def exported(saved, tmp_path_factory):
    return export_checkpoint(saved.path, tmp_path_factory.mktemp("export") / "hf", ExportOptions())


@torch.no_grad()
def test_a_user_without_the_package_gets_the_trained_model(saved, exported, tmp_path):
    images = [tiny_image(seed) for seed in range(3)]
    for index, image in enumerate(images):
        image.save(tmp_path / f"{index}.png")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", USER, str(exported), str(tmp_path), str(tmp_path / "out.safetensors")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = load_file(tmp_path / "out.safetensors")

    ours = saved.processor(images=images, text=TEXTS)
    assert set(ours) == theirs.keys() - {"logits", "tokens"}
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    reloaded = FlamingoForConditionalGeneration.from_pretrained(exported).eval()
    assert torch.equal(theirs["logits"], reloaded(**ours).logits)
    # The merged head is one product where training has two: fp32 rounding of 32 terms, logits of order 5.
    assert torch.allclose(theirs["logits"], saved.model(**ours).logits, rtol=1e-6, atol=1e-5)
    prompt = saved.processor(images=images[:1], text="<image>")
    assert torch.equal(theirs["tokens"], reloaded.generate(**prompt, max_new_tokens=4, do_sample=False))


@torch.no_grad()
def test_the_checkpoint_s_weights_are_in_the_export(saved, exported):
    """Every tensor but the two that new tokens are merged into is the model's own, bit for bit."""
    weights, wanted = load_file(exported / "model.safetensors"), dict(saved.model.named_parameters())
    merged = {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight"}
    assert weights.keys() == wanted.keys() - {"new_token_embedding.weight", "new_token_head.weight"}
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights.items() if name not in merged)


def test_an_export_stops_at_the_end_of_a_chunk_and_writes_no_image(saved, exported):
    settings = json.loads((exported / "generation_config.json").read_text(encoding="utf-8"))
    assert settings["eos_token_id"] == saved.model.config.eoc_token_id
    assert settings["suppress_tokens"] == [saved.model.config.image_token_id]


def test_an_export_has_no_new_tokens_beside_the_matrices(exported):
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    assert (config["num_new_tokens"], config["text_config"]["vocab_size"]) == (0, 282)
    weights = load_file(exported / "model.safetensors")
    assert not any(name.startswith("new_token") for name in weights)
    assert weights["language_model.model.embed_tokens.weight"].shape[0] == 282
    assert (exported / "README.md").read_text(encoding="utf-8").startswith("---\nlibrary_name: transformers")


def test_an_earlier_export_is_replaced_in_another_precision(saved, exported, tmp_path):
    out = tmp_path / "hf"
    shutil.copytree(exported, out)
    (out / "stray").touch()
    export_checkpoint(saved.path, out, ExportOptions(torch.bfloat16))
    assert not (out / "stray").exists()
    weights, before = load_file(out / "model.safetensors"), load_file(exported / "model.safetensors")
    assert weights.keys() == before.keys()
    assert all(torch.equal(tensor, before[name].bfloat16()) for name, tensor in weights.items())


def test_anything_but_an_export_is_left_alone(saved, tmp_path):
    for name, content in [("notes.txt", "mine"), ("config.json", '{"model_type": "llama"}')]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match="OUT = .*a new folder, or an earlier result to replace"):
            export_checkpoint(saved.path, folder, ExportOptions())
        assert (folder / name).read_text(encoding="utf-8") == content
    with pytest.raises(ConfigError, match="OUT = "):
        export_checkpoint(saved.path, tmp_path / "notes.txt" / "notes.txt", ExportOptions())


def test_another_base_is_refused(saved, tmp_path):
    path = saved.copy(tmp_path / "other")
    about = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
    about["base"]["sha256"] = "0" * 64
    (path / "checkpoint.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"frozen base = .*lm \+ local-dir:.*sha256 000000000000"):
        export_checkpoint(path, tmp_path / "hf", ExportOptions())
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "resampler.latents is only in the model"),
        ("extra", "a.new.name is only in the checkpoint"),
        ("shape", r"resampler.latents \(4, 32\), not \(5, 32\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(saved, tmp_path, damage, message):
    path = saved.copy(tmp_path / "bad")
    file = path / shard_name("weight", 0, 1)
    weights = load_file(file)
    if damage == "missing":
        del weights["resampler.latents"]
    elif damage == "extra":
        weights["a.new.name"] = torch.zeros(1)
    else:
        weights["resampler.latents"] = torch.zeros(5, 32)
    save_file(weights, file)
    index = path / index_name("weight")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(weights, file.name)}), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        export_checkpoint(path, tmp_path / "hf", ExportOptions())
    assert not (tmp_path / "hf").exists()


def test_a_small_shard_size_gives_an_index_and_the_same_tensors(saved, exported, tmp_path):
    out = export_checkpoint(saved.path, tmp_path / "hf", ExportOptions(max_shard_size="20KB"))
    index = json.loads((out / "model.safetensors.index.json").read_text(encoding="utf-8"))
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 5
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    found = {name: tensor for file in files for name, tensor in load_file(out / file).items()}
    whole = load_file(exported / "model.safetensors")
    assert found.keys() == whole.keys() == index["weight_map"].keys()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in found.items())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())


def test_a_conversion_that_died_goes_on_where_it_stopped(saved, tmp_path, monkeypatch):
    options, out = ExportOptions(max_shard_size="20KB"), tmp_path / "hf"
    written = []

    def failing(path, outputs, advance):
        written.append(path.name)
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        return write_shard(path, outputs, advance)

    monkeypatch.setattr("flamingo_ds.checkpoint.conversion.folder.write_shard", failing)
    with pytest.raises(OSError, match="No space left"):
        export_checkpoint(saved.path, out, options)
    assert not out.exists()
    finished = set(written[:3])
    before = {name: (tmp_path / "hf.partial" / name).stat().st_mtime_ns for name in finished}
    again = []
    monkeypatch.setattr(
        "flamingo_ds.checkpoint.conversion.folder.write_shard",
        lambda path, outputs, advance: again.append(path.name) or write_shard(path, outputs, advance),
    )
    export_checkpoint(saved.path, out, options)
    assert again
    assert not finished & set(again)
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == before
    assert verify_hashes(out) == len(load_file_names(out))
    assert not (tmp_path / "hf.partial").exists()


def load_file_names(folder):
    return json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]


def test_another_precision_begins_anew(saved, tmp_path, monkeypatch):
    out = tmp_path / "hf"
    monkeypatch.setattr("flamingo_ds.checkpoint.conversion.folder.put_in_place", lambda *_: exit(1))
    with pytest.raises(SystemExit):
        export_checkpoint(saved.path, out, ExportOptions())
    monkeypatch.undo()
    export_checkpoint(saved.path, out, ExportOptions(torch.bfloat16))
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.bfloat16}


def test_verifying_finds_one_changed_bit(saved, exported, tmp_path):
    out = shutil.copytree(exported, tmp_path / "hf")
    assert verify_hashes(out) == len(load_file(out / "model.safetensors"))
    weights = load_file(out / "model.safetensors")
    weights["resampler.latents"].view(torch.int32)[0, 0] ^= 1
    save_file(weights, out / "model.safetensors")
    with pytest.raises(ConfigError, match=r"resampler.latents = .*the bytes that the manifest says"):
        verify_hashes(out)


def test_what_trains_alone(saved, tmp_path):
    out = export_checkpoint(saved.path, tmp_path / "hf", ExportOptions(trainable_only=True))
    weights = load_file(out / "model.safetensors")
    assert weights.keys() == saved.state.keys()
    assert all(torch.equal(tensor, saved.state[name]["weight"]) for name, tensor in weights.items())


def test_memory_is_a_chunk_and_not_the_model(tmp_path):
    """200 MB of fp32 become bf16 with no more of this process's own memory than some chunks of a million numbers."""
    save_file({"a": torch.arange(50 * 2**20, dtype=torch.float32)}, tmp_path / "in.safetensors")
    file = MappedFile(tmp_path / "in.safetensors")
    output = Output("a", torch.bfloat16, (50 * 2**20,), lambda: [StoredTensor.plain(file["a"])])
    before, seen = own_memory(), []
    write_shard(tmp_path / "out.safetensors", [output], lambda count: seen.append(own_memory()))
    assert len(seen) == 50
    assert max(seen) - before < 30e6
    assert torch.equal(load_file(tmp_path / "out.safetensors")["a"], torch.arange(50 * 2**20).float().bfloat16())


def own_memory():
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("RssAnon:")[1].split()[0])
