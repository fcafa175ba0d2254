"""Every mistake of a user is one line with key, value and what was expected; exit code 2, nothing trained."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE
from flamingo_ds.train import main

from .. import killing
from .conftest import Road

CASES = {
    "unknown key": (["train.max_stepz=4"], "train.max_stepz", "did you mean train.max_steps?"),
    "wrong type": (["train.max_steps=many"], "train.max_steps = 'many'", "an integer"),
    "out of range": (["train.max_steps=0"], "train.max_steps = 0", "above 0"),
    "not a choice": (["train.precision=fp8"], "train.precision = 'fp8'", "bf16"),
    "no key=value": (["train.max_steps"], "train.max_steps", "key=value"),
    "does not divide": (["data.datasets.pairs.micro_batch_size=3"], "micro_batch_size = 3", "a divisor of 4"),
    "missing shard": (["data.datasets.pairs.shards=/nowhere/{0..3}.tar"], "'/nowhere/0.tar'", "4 of 4 shards"),
    "no language model": (
        ["model.language_model.source=/nowhere"],
        "model.language_model.source = '/nowhere'",
        "a folder",
    ),
    "no vision encoder": (
        ["model.vision_encoder.source=local-dir:/nowhere"],
        "model.vision_encoder.source",
        "/nowhere",
    ),
    "unknown open_clip": (["model.vision_encoder.source=ViT-Z-99"], "'ViT-Z-99'", "an open_clip model"),
    "no such checkpoint": (["--resume", "/nowhere"], "'/nowhere'", "a checkpoint folder"),
    "no such deepspeed file": (["--deepspeed_config", "/nowhere.json"], "'/nowhere.json'", "no such file"),
    "keep no checkpoint": (["train.keep_last=0"], "train.keep_last = 0", "above 0"),
    "negative watchdog": (["parallel.watchdog_s=-1"], "parallel.watchdog_s = -1.0", "at least 0"),
    "offset past the end": (["model.gated_cross_attention.offset=9"], "cross_attention_offset is 9", "0 to 2"),
}

TWO_STAGES = "parallel.pipeline_stages=2"
STAGES = "parallel.pipeline_stages"
BLOOM = "{model_type: bloom, hidden_size: 32, n_layer: 2, n_head: 2, vocab_size: 300}"
# Ranks, arguments, content of the DeepSpeed JSON; what is named, what was expected.
LAYOUTS: dict[str, tuple[int, list[str], Any, str, str]] = {
    "stages do not divide ranks": (3, [TWO_STAGES], None, f"{STAGES} = 2", "a divisor of the 3 ranks"),
    "stages on one process": (1, [TWO_STAGES], None, f"{STAGES} = 2", "a divisor of the 1 ranks"),
    "more stages than blocks": (4, [f"{STAGES}=4"], None, f"{STAGES} = 4", "4 stages of 3 LM blocks"),
    "more stages than trainable places": (
        3,
        [f"{STAGES}=3", "model.gated_cross_attention.every=3"],
        None,
        f"{STAGES} = 3",
        "at most 2 are possible",
    ),
    "family that cannot be cut": (
        2,
        [TWO_STAGES, f"model.language_model.architecture={BLOOM}"],
        None,
        f"{STAGES} = 2",
        "bloom has not been tried",
    ),
    "batch and replicas": (
        4,
        [TWO_STAGES, "data.datasets.pages.batch_size=3"],
        None,
        "data.datasets.pages.batch_size = 3",
        "a multiple of the 2 replicas",
    ),
    "shards without stages": (
        2,
        ["parallel.shard_frozen=true"],
        None,
        "parallel.shard_frozen = True",
        "false without pipeline stages",
    ),
    **{
        f"ZeRO {stage} with stages": (
            2,
            [TWO_STAGES, "train.precision=fp32"],
            {"zero_optimization": {"stage": stage}},
            f"zero_optimization.stage = {stage}",
            "1 with parallel.pipeline_stages",
        )
        for stage in (0, 2, 3)
    },
    "offload with stages": (
        2,
        [TWO_STAGES],
        {"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}}},
        "zero_optimization.offload_optimizer = {'device': 'cpu'}",
        "nothing with parallel.pipeline_stages",
    ),
    "DeepSpeed's pipeline": (
        2,
        [TWO_STAGES],
        {"zero_optimization": {"stage": 1}, "pipeline": {"stages": 2}},
        "pipeline = {'stages': 2}",
        "the recipe's parallel.pipeline_stages decides",
    ),
}
# Of a resumed run: arguments; what is named, what was expected.
CHANGES = {
    "freeze table": (["model.freeze_preset=fine_tuning"], "the model's trainable weights", "is only in the model"),
    "fewer gated blocks": (["model.gated_cross_attention.every=2"], "model (cross_attention_every) = 2", "expected 1"),
    # The same weights fit, and would mean something else.
    "media rule": (["model.media_rule=next"], "model (media_rule) = 'next'", "expected 'last', with which"),
    "vision features": (["model.vision_encoder.features=post_norm"], "model (vision_features)", "expected 'pre_norm'"),
    "other dataset": (
        ["data.datasets={others: {format: image_text, shards: SHARDS, batch_size: 2}}"],
        "data.datasets",
        "the datasets that step-00000001 was trained on",
    ),
}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == EXIT_BAD_INPUT
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("case", CASES)
def test_one_line(case: str, road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, names, expected = CASES[case]
    line = refused(["--recipe", str(road.recipe), *arguments, f"run_dir={tmp_path / 'run'}"], capsys)
    assert names in line
    assert expected in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("case", LAYOUTS)
def test_one_line_on_a_layout(
    case: str, road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks, arguments, deepspeed, names, expected = LAYOUTS[case]
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    if deepspeed is not None:
        (tmp_path / "ds.json").write_text(json.dumps(deepspeed))
        arguments = [*arguments, "--deepspeed_config", str(tmp_path / "ds.json")]
    line = refused(["--recipe", str(road.recipe), *arguments, f"run_dir={tmp_path / 'run'}"], capsys)
    assert names in line
    assert expected in line
    assert not (tmp_path / "run").exists()


def train(road: Road, output: Path, *arguments: str) -> tuple[int | None, str]:
    """In a process of its own: exit code and what it printed."""
    process = killing.start(killing.train, ["--recipe", str(road.recipe), *arguments], output)
    process.join(120)
    return process.exitcode, output.read_text()


@pytest.fixture(scope="module")
def checkpoint(road: Road) -> Path:
    run = road.folder / "to-resume"
    code, output = train(road, run.with_suffix(".txt"), f"run_dir={run}", "train.max_steps=1")
    assert code == EXIT_DONE, output
    return run / "checkpoints/step-00000001"


@pytest.mark.parametrize("case", CHANGES)
def test_one_line_on_a_change_of_a_resumed_run(
    case: str, road: Road, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, names, expected = CHANGES[case]
    arguments = [argument.replace("SHARDS", f"{road.folder}/pairs-*.tar") for argument in arguments]
    run = f"run_dir={tmp_path / 'run'}"
    line = refused(["--recipe", str(road.recipe), "--resume", str(checkpoint), *arguments, run], capsys)
    assert names in line
    assert expected in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("damage", "expected"), [({"format": 1}, "format 2; it has format 1"), ({"step": None}, "a number of step")]
)
def test_a_checkpoint_of_another_format(
    road: Road,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: dict[str, Any],
    expected: str,
) -> None:
    shutil.copytree(checkpoint, tmp_path / "old")
    about = tmp_path / "old/checkpoint.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | damage))
    line = refused(["--recipe", str(road.recipe), "--resume", str(tmp_path / "old")], capsys)
    assert str(tmp_path / "old") in line
    assert expected in line


def test_a_checkpoint_of_another_base(road: Road, checkpoint: Path, tmp_path: Path) -> None:
    """The base is hashed by all ranks together, so behind the start; what is known of earlier starts stays."""
    shutil.copytree(road.folder / "backbones/lm", tmp_path / "lm")
    weights = load_file(tmp_path / "lm/model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, tmp_path / "lm/model.safetensors", {"format": "pt"})
    run = checkpoint.parents[1]
    before = (run / "config.yaml").read_text()
    arguments = ["--resume", f"model.language_model.source={tmp_path / 'lm'}", "train.max_steps=2", f"run_dir={run}"]
    code, output = train(road, tmp_path / "out.txt", *arguments)
    assert code == EXIT_BAD_INPUT, output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert f"frozen base = '{tmp_path / 'lm'} + " in line
    assert f"expected the base of {checkpoint}: {road.folder / 'backbones/lm'} + " in line
    assert "Traceback" not in output
    assert (run / "config.yaml").read_text() == before


def test_a_changed_seed_is_said_and_taken(
    road: Road, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--recipe", str(road.recipe), "--resume", str(checkpoint), "--dry-run", f"run_dir={tmp_path / 'run'}"]
    assert main([*arguments, "train.optimizer.learning_rate=1e-5"]) == EXIT_DONE
    assert "note:" not in capsys.readouterr().out
    assert main([*arguments, "seed=1", "data.datasets.pages.shuffle_buffer=7"]) == EXIT_DONE
    output = capsys.readouterr().out
    assert (
        "note: seed, data.datasets.pages.shuffle_buffer changed since step-00000001: in the epoch under way" in output
    )


def test_unknown_key_of_deepspeed(road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "zero.json"
    config.write_text('{"zero_optimization": {"stage": 3, "overlap_com": true}}')
    line = refused(["--recipe", str(road.recipe), "--deepspeed_config", str(config)], capsys)
    assert "zero_optimization.overlap_com = True" in line
    assert "did you mean zero_optimization.overlap_comm?" in line


def test_corrupt_first_image(road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import webdataset

    with webdataset.TarWriter(str(tmp_path / "bad.tar")) as tar:
        tar.write({"__key__": "broken", "png": b"\x89PNG\r\n\x1a\n cut off", "txt": b"a text"})
    shards = f"data.datasets.pairs.shards={tmp_path / 'bad.tar'}"
    line = refused(["--recipe", str(road.recipe), shards, f"run_dir={tmp_path / 'run'}"], capsys)
    assert "bad.tar:broken" in line
    assert "unreadable_image" in line


def test_run_folder_that_cannot_be_made(road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    line = refused(["--recipe", str(road.recipe), f"run_dir={tmp_path / 'file' / 'run'}"], capsys)
    assert "run_dir" in line
    assert "Not a directory" in line


def test_run_folder_that_is_read_only(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "flamingo_ds.training.run_folder.os.access", lambda path, mode: False
    )  # root may write anywhere
    line = refused(["--recipe", str(road.recipe), f"run_dir={tmp_path / 'run'}"], capsys)
    assert f"run_dir = '{tmp_path / 'run'}': expected a folder that can be written to" in line


def test_lone_rank_variable(road: Road, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "missing: RANK" in refused(["--recipe", str(road.recipe)], capsys)


def test_dry_run_shows_the_plan_and_writes_nothing(
    road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["--recipe", str(road.recipe), f"run_dir={run}", "--dry-run", "train.max_steps=77"]) == EXIT_DONE
    output = capsys.readouterr().out
    for told in ("max_steps: 77", "gated_cross_attention.*", "pairs", "ZeRO-1 on 1 ranks", "ends at step 77"):
        assert told in output
    assert not run.exists()


def test_dry_run_of_a_pipeline_shows_its_stages(
    road: Road, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 4, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    assert main(["--recipe", str(road.recipe), "--dry-run", TWO_STAGES, "parallel.shard_frozen=true"]) == EXIT_DONE
    output = capsys.readouterr().out
    assert "layout: pipeline of 2 stages x data 2, ZeRO-1, frozen weights sharded" in output
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if "│" in line]
    # pairs: 4 sequences are 2 replicas x 1 x 2 micro-steps.
    assert ["pairs", "4", "2", "1", "2", "1.0"] in rows
    assert [row[1] for row in rows if row[0] in ("0", "1") and len(row) == 6] in (["0", "1 to 2"], ["0 to 1", "2"])


def test_keys_may_stand_behind_resume(road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = f"run_dir={tmp_path / 'run'}"
    assert main(["--recipe", str(road.recipe), run, "--dry-run", "--resume", "train.max_steps=77"]) == EXIT_DONE
    assert "starts afresh, ends at step 77" in capsys.readouterr().out


def test_a_new_recipe_file_is_read_from_anywhere(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(road.recipe, tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    assert main(["--recipe", "mine.yaml", "--dry-run"]) == EXIT_DONE
    assert "starts afresh" in capsys.readouterr().out
