"""Probes from the command line: training does not feel them, a resumed run gives the same, so does every layout."""

import json
from pathlib import Path

import pytest
import torch

from .conftest import Road
from .test_bad_input import refused
from .test_layouts import FP32, KINDS, SHARDED, ZERO3, end_ranks, start_ranks
from .test_stop_and_resume import load_kind, metrics

# The road's own shards: what is measured does not matter here.
HELD = "{{pairs: {{format: image_text, shards: '{0}/pairs-*.tar', batch_size: 4, micro_batch_size: 2}}, "
HELD += "pages: {{format: interleaved, shards: '{0}/pages-*.tar', batch_size: 4}}}}"
NAMES = [f"probe/{name}/{kind}" for name in ("pairs", "pages") for kind in ("loss", "loss_blank", "loss_shuffled")]
NAMES += ["probe/pairs/loss_0_shots", "probe/pairs/loss_2_shots"]


def probed(road: Road) -> list[str]:
    return [
        *FP32,
        "probe.every=2",
        "probe.batches=2",
        "probe.shots=[0, 2]",
        f"probe.datasets={HELD.format(road.folder)}",
    ]


def run(road: Road, name: str, ranks: int, *more: str) -> tuple[Path, str]:
    folder = road.folder / "probes" / name
    folder.parent.mkdir(exist_ok=True)
    return folder, end_ranks(start_ranks(road, folder, ranks, more), folder)


def probes(folder: Path) -> dict[int, dict[str, float]]:
    """By step what was measured behind it."""
    found = {
        line["step"]: {name: value for name, value in line.items() if name.startswith("probe/")}
        for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    }
    return {step: losses for step, losses in found.items() if losses}


@pytest.fixture(scope="module")
def whole(road: Road) -> Path:
    folder, said = run(road, "whole", 1, *probed(road))
    assert said.count("\nprobe at step ") == 3
    assert "probe at step 4  pairs loss " in said
    return folder


def test_losses_stand_in_the_lines_of_their_steps(whole: Path) -> None:
    found = probes(whole)
    assert list(found) == [2, 4, 6]
    assert all(sorted(losses) == sorted(NAMES) for losses in found.values())
    last = found[6]
    without_examples = last.pop("probe/pairs/loss_0_shots")
    assert without_examples == pytest.approx(last["probe/pairs/loss"], rel=1e-6)  # the same sequences
    # All pages of the road say the same, so that it is all one which of them has which two neighbouring images.
    assert last.pop("probe/pages/loss_shuffled") == pytest.approx(last["probe/pages/loss"], rel=1e-6)
    assert len(set(last.values())) == len(last), last


def test_training_does_not_feel_them(road: Road, whole: Path) -> None:
    without, _ = run(road, "without", 1, *FP32)
    assert probes(without) == {}
    assert metrics(without) == [
        {name: value for name, value in line.items() if not name.startswith("probe/")} for line in metrics(whole)
    ]
    for kind in KINDS:
        ours, theirs = (load_kind(folder / "checkpoints/latest", kind) for folder in (whole, without))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), kind


def test_a_resumed_run_measures_the_same(road: Road, whole: Path) -> None:
    folder, _ = run(road, "resumed", 1, *probed(road), "train.max_steps=4")
    run(road, "resumed", 1, *probed(road), "--resume")
    assert metrics(folder) == metrics(whole)


# A model that stands still: what replicas train on hangs on their number, what a probe measures must not.
STILL = ("train.optimizer.learning_rate=1e-30", "train.max_steps=2")


@pytest.fixture(scope="module")
def still(road: Road) -> dict[str, float]:
    return probes(run(road, "still", 1, *probed(road), *STILL)[0])[2]


@pytest.mark.parametrize(("ranks", "layout"), [(2, ZERO3), (4, SHARDED)], ids=["zero3", "pipeline 2 x data 2 sharded"])
def test_every_layout_measures_the_same_samples(
    road: Road, still: dict[str, float], ranks: int, layout: tuple[str, ...]
) -> None:
    folder, _ = run(road, f"on-{ranks}", ranks, *probed(road), *STILL, *layout)
    assert probes(folder)[2] == pytest.approx(still, rel=1e-6)


SHORT_CONTEXT = "{model_type: llama, hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 4, vocab_size: 300, "
SHORT_CONTEXT += "max_position_embeddings: 40}"
# Arguments behind those of ``probed``; what is named, what was expected.
REFUSED = {
    "missing shards": (["probe.datasets.pairs.shards=/nowhere.tar"], "probe.datasets.pairs.shards", "a tar file"),
    "too few samples": (["probe.batches=5"], "probe.datasets.pairs.shards", "it has 16, and bad ones: none"),
    "more than the context holds": (
        [f"model.language_model.architecture={SHORT_CONTEXT}", "probe.shots=[7]"]
        + [f"{place}.datasets.{name}.max_tokens=40" for place in ("data", "probe") for name in ("pairs", "pages")],
        "probe.shots = [7]",
        "at most 40 tokens, the language model's context; the longest has ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_line(case: str, road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, names, expected = REFUSED[case]
    line = refused(["--recipe", str(road.recipe), *probed(road), *arguments, f"run_dir={tmp_path / 'run'}"], capsys)
    assert names in line
    assert expected in line
    assert not (tmp_path / "run").exists()
