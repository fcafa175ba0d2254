"""Around every family: saved as it ships, loaded by the Auto class in a process without the package, equal logits."""

import json
import os
import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file

from flamingo_ds.checkpoint.conversion.hf_folder import name_code
from tests.tiny import FAMILIES, tiny_batch, tiny_flamingo, tiny_text_config

SWITCHES = {
    **{family: (family, {}) for family in sorted(FAMILIES)},
    "tied": ("llama", {"text": {"tie_word_embeddings": True}}),
    "openflamingo": ("llama", {"style": "openflamingo", "max_frames": 0}),
    "idefics": ("llama", {"style": "idefics", "cross_attention_query_key_norm": True}),
}
# Loads each folder and writes its logits. One process for all of them: its imports take most of its time.
USER = """
import json, sys
sys.modules["flamingo_ds"] = None
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

folder, names = sys.argv[1], json.loads(sys.argv[2])
inputs = load_file(f"{folder}/inputs.safetensors")
logits = {}
for name in names:
    model = AutoModelForImageTextToText.from_pretrained(f"{folder}/{name}", trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
    with torch.no_grad():
        logits[name] = model(**inputs).logits
save_file(logits, f"{folder}/logits.safetensors")
"""


@torch.no_grad()
def test_logits_are_equal_in_a_fresh_process(tmp_path):
    inputs = tiny_batch().tensors()
    del inputs["labels"]
    save_file(inputs, tmp_path / "inputs.safetensors")
    wanted = {}
    for name, (family, changes) in SWITCHES.items():
        text = tiny_text_config(family, **changes.get("text", {}))
        model = tiny_flamingo(text, **{key: value for key, value in changes.items() if key != "text"})
        model.merge_new_tokens()
        name_code(model)
        model.save_pretrained(tmp_path / name)
        wanted[name] = model(**inputs).logits
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", USER, str(tmp_path), json.dumps(list(SWITCHES))]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = load_file(tmp_path / "logits.safetensors")
    different = [name for name in SWITCHES if not torch.equal(theirs[name], wanted[name])]
    assert not different
