"""Exports as their users meet them: stock transformers, peft and lm-eval, in a process that cannot import this package.

Trained by the command line in every kind of layout, converted, loaded; the logits are those of the engine that trained.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file

from flamingo_ds.checkpoint.conversion.from_hf import checkpoint_from_hf
from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions, export_checkpoint
from flamingo_ds.checkpoint.conversion.verify import verify_export
from flamingo_ds.checkpoint.store import Checkpoint

from ..tiny import tiny_image, write_tiny_backbones
from .conftest import Road
from .test_layouts import PIPELINE, SHARDED, ZERO3, train

STEPS = ("train.max_steps=2", "train.save_every=100")
FP32 = "train.precision=fp32"
# Name -> ranks, and what the command line says.
LAYOUTS = {
    "zero3": (2, ZERO3),
    "pipeline-2": (2, PIPELINE),
    "pipeline-2-data-2-sharded": (4, SHARDED),
    "pipeline-2-fp32": (2, (*PIPELINE, FP32)),
}
# Merged rows are one product where training has two: fp32 adds in another order, bf16's rounding hides it.
FP32_LOGITS = 1e-6
USER = Path(__file__).with_name("export_user.py")


@dataclass(frozen=True)
class Exported:
    """A run's last checkpoint and its export."""

    checkpoint: Path
    folder: Path


@pytest.fixture(scope="module")
def tied_road(road: Road, tmp_path_factory: pytest.TempPathFactory) -> Road:
    """The same data with a language model whose head is its embedding."""
    folder = tmp_path_factory.mktemp("tied")
    write_tiny_backbones(folder / "backbones", tie_word_embeddings=True)
    recipe: Any = OmegaConf.load(road.recipe)
    recipe.model.language_model.source = str(folder / "backbones/lm")
    OmegaConf.save(recipe, folder / "recipe.yaml")
    return Road(folder, folder / "recipe.yaml")


@pytest.fixture(scope="module")
def exported(road: Road, tied_road: Road) -> Callable[[str, str], Exported]:
    """Train and convert, once each."""
    made: dict[tuple[str, str], Exported] = {}

    def make(layout: str, head: str) -> Exported:
        if (layout, head) not in made:
            ranks, arguments = LAYOUTS[layout]
            where = {"untied": road, "tied": tied_road}[head]
            run = train(where, f"export-{layout}", ranks, *STEPS, *arguments)
            checkpoint = run / "checkpoints/latest"
            made[layout, head] = Exported(checkpoint, export_checkpoint(checkpoint, run / "hf", ExportOptions()))
        return made[layout, head]

    return make


def run_user(task: str, arguments: dict[str, Any], folder: Path) -> Any:
    """``export_user.py``'s answer; it runs where this package cannot be imported."""
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HOME": str(folder / "home"), "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(USER), task, json.dumps(arguments), str(folder / f"{task}.json")]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / f"{task}.json").read_text())


@pytest.mark.parametrize("head", ["untied", "tied"])
def test_every_layout_s_export_gives_the_engine_s_logits(
    exported: Callable[[str, str], Exported], head: str, tmp_path: Path
) -> None:
    pairs = {layout: exported(layout, head) for layout in LAYOUTS}
    arguments = {layout: [str(pair.folder), str(pair.checkpoint)] for layout, pair in pairs.items()}
    found = run_user("logits", arguments, tmp_path)
    assert found.keys() == LAYOUTS.keys()
    for layout, difference in found.items():
        assert difference <= (FP32_LOGITS if layout.endswith("fp32") else 0.0), f"{layout}: {difference}"
        pair = pairs[layout]
        assert verify_export(pair.folder, Checkpoint(pair.checkpoint)).logit_difference == difference


@pytest.mark.parametrize("head", ["untied", "tied"])
@pytest.mark.parametrize("layout", ["zero3", "pipeline-2-data-2-sharded"])
def test_back_to_a_checkpoint_and_out_again_are_the_same_bytes(
    exported: Callable[[str, str], Exported], layout: str, head: str, tmp_path: Path
) -> None:
    first = exported(layout, head).folder
    back = checkpoint_from_hf(first, tmp_path / "back", [])
    second = export_checkpoint(back, tmp_path / "second", ExportOptions())
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (first, second)]
    assert manifests[0]["tensors"] == manifests[1]["tensors"]
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert len(load_file(first / "model.safetensors")) == len(manifests[0]["tensors"]) > 50


@pytest.fixture
def arguments(exported: Callable[[str, str], Exported], tmp_path: Path) -> dict[str, Any]:
    for number in range(3):
        tiny_image(number).save(tmp_path / f"{number}.png")
    return {"folder": str(exported("zero3", "untied").folder), "pictures": str(tmp_path)}


def test_generation_pipeline_and_adapters(arguments: dict[str, Any], tmp_path: Path) -> None:
    found = run_user("use", arguments, tmp_path)
    assert found["beams_with_cache"] == found["beams_without_cache"]
    assert found["greedy_alone"] == found["greedy_in_a_batch"]
    assert found["chat_answers"] == 1
    assert found["adapters_change_nothing_at_first"] == 0.0
    assert found["adapted_by"] > 1e-3
    # LoRA's product is added to the matrix: another order of additions.
    assert found["merged_differs_by"] < 1e-4
    assert found["reloaded_differs_by"] == 0.0


def test_eight_bits(arguments: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="an option of users: pip install bitsandbytes")
    found = run_user("eight_bits", arguments, tmp_path)
    assert 0 < found["differs_by"] < 1


def test_the_lm_eval_harness_scores_a_task(arguments: dict[str, Any], tmp_path: Path) -> None:
    """A local task of captions: the answers that the model gives must score 1, others 0."""
    own = run_user("captions", arguments, tmp_path)
    (tmp_path / "right.jsonl").write_text("".join(json.dumps({"number": n, "text": own[n]}) + "\n" for n in range(3)))
    (tmp_path / "wrong.jsonl").write_text("".join(json.dumps({"number": n, "text": "no"}) + "\n" for n in range(3)))
    (tmp_path / "pictures.py").write_text(
        "from PIL import Image\n\n\ndef of(sample):\n"
        f"    return [Image.open({str(tmp_path)!r} + '/' + str(sample['number']) + '.png')]\n"
    )
    for answers in ("right", "wrong"):
        (tmp_path / f"{answers}.yaml").write_text(
            f"task: captions_{answers}\ndataset_path: json\n"
            f"dataset_kwargs: {{data_files: {{test: {tmp_path}/{answers}.jsonl}}}}\n"
            "test_split: test\noutput_type: generate_until\ndoc_to_image: !function pictures.of\n"
            'doc_to_text: "<image>"\ndoc_to_target: "{{text}}"\n'
            "generation_kwargs: {until: ['<EOC>'], max_gen_toks: 4, do_sample: false}\n"
            "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
        )
    found = run_user("lm_eval", arguments, tmp_path)
    assert found == {"captions_right": 1.0, "captions_wrong": 0.0}
