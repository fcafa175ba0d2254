"""Every mistake of a user is one line with key, value and what was expected; exit code 2, nothing trained."""

import shutil
from pathlib import Path

import pytest

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE
from flamingo_ds.train import main

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
    "offset past the end": (["model.gated_cross_attention.offset=9"], "cross_attention_offset is 9", "0 to 2"),
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
