import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_ds.checkpoint.export import export_to_hf, load_trained_model
from flamingo_ds.checkpoint.names import index_name, shard_name
from flamingo_ds.checkpoint.store import Checkpoint
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
    return export_to_hf(saved.path, tmp_path_factory.mktemp("export") / "hf", None)


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
def test_the_checkpoint_s_weights_are_in_the_model(saved):
    model = load_trained_model(saved.load(), saved.recipe)
    wanted = dict(saved.model.named_parameters())
    assert all(torch.equal(parameter, wanted[name]) for name, parameter in model.named_parameters())
    assert wanted.keys() == dict(model.named_parameters()).keys()


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
    export_to_hf(saved.path, out, torch.bfloat16)
    assert not (out / "stray").exists()
    weights, before = load_file(out / "model.safetensors"), load_file(exported / "model.safetensors")
    assert weights.keys() == before.keys()
    assert all(torch.equal(tensor, before[name].bfloat16()) for name, tensor in weights.items())


def test_anything_but_an_export_is_left_alone(saved, tmp_path):
    for name, content in [("notes.txt", "mine"), ("config.json", '{"model_type": "llama"}')]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match="OUT = .*a new folder, or an earlier export to replace"):
            export_to_hf(saved.path, folder, None)
        assert (folder / name).read_text(encoding="utf-8") == content
    with pytest.raises(ConfigError, match="OUT = "):
        export_to_hf(saved.path, tmp_path / "notes.txt" / "notes.txt", None)


def test_another_base_is_refused(saved, tmp_path):
    path = saved.copy(tmp_path / "other")
    about = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
    about["base"]["sha256"] = "0" * 64
    (path / "checkpoint.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"frozen base = .*lm \+ local-dir:.*sha256 000000000000"):
        export_to_hf(path, tmp_path / "hf", None)
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
        load_trained_model(Checkpoint(path), saved.recipe)
