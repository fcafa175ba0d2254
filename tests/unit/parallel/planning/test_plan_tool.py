"""``tools/plan.py`` as it is called."""

import io
import json
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from flamingo_ds.config import to_yaml
from tests.tiny import tiny_recipe, write_tiny_backbones

ROOT = Path(__file__).resolve().parents[4]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In this process, as importing torch takes longer than planning."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["plan.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "tools" / "plan.py"), run_name="__main__")
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(arguments, ended.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    config = tiny_recipe(folder, write_tiny_backbones(folder))
    config.data.datasets["pairs"].batch_size = 6
    config.data.datasets["pairs"].max_tokens = 32
    config.data.datasets["pairs"].micro_batch_size = 1
    file = folder / "recipe.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def report(recipe: Path) -> dict[str, Any]:
    out = recipe.parent / "plan.json"
    ran = run(str(recipe), "--nodes", "2", "--gpus-per-node", "3", "--gpu-memory", "1GB", "--json", str(out))
    assert ran.returncode == 0, ran.stderr
    assert "the fastest:" in ran.stdout
    return json.loads(out.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_every_layout_is_there_once(report: dict[str, Any]) -> None:
    """Six ranks, three LM blocks, fp32: ZeRO-0 to 3; 2 x 3 and 3 x 2, each plain, sharded, and sharded but kept."""
    assert len(report["layouts"]) == 2 * (4 + 2 * 3)
    assert len({(one["name"], one["every"]) for one in report["layouts"]}) == len(report["layouts"])


def test_those_that_fit_are_sorted_by_time(report: dict[str, Any]) -> None:
    fits = [one["fits"] for one in report["layouts"]]
    assert fits == sorted(fits, reverse=True)
    seconds = [one["seconds"]["total"] for one in report["layouts"] if one["fits"]]
    assert seconds == sorted(seconds)
    assert all(one["memory_bytes"]["total"] <= 0.9e9 for one in report["layouts"] if one["fits"])


def test_stages_hold_all_blocks(report: dict[str, Any]) -> None:
    pipelines = [one for one in report["layouts"] if one["stages"] > 1]
    assert pipelines
    for one in pipelines:
        blocks = [stage["blocks"] for stage in one["stages_detail"]]
        assert [start for start, _ in blocks] == [0, *(end for _, end in blocks[:-1])]
        assert blocks[-1][1] == 3
        assert sum(stage["trainable"] for stage in one["stages_detail"]) == report["parameters"]["trainable"]
        assert f"parallel.pipeline_stages={one['stages']}" in one["keys"]


def test_checkpoints_by_arithmetic(report: dict[str, Any]) -> None:
    frozen, trainable = report["parameters"]["frozen"], report["parameters"]["trainable"]
    assert report["checkpoint_bytes"]["without_frozen"] == 12 * trainable
    assert report["checkpoint_bytes"]["with_frozen"] == 12 * trainable + 4 * frozen


def test_batches_that_do_not_divide_are_left_out_with_the_reason(recipe: Path) -> None:
    ran = run(str(recipe), "--gpus-per-node", "4", "--gpu-memory", "1GB", "--all")
    assert ran.returncode == 0, ran.stderr
    assert "ZeRO-1 on 4, recompute off: data.datasets.pairs.batch_size = 6: expected a multiple of the 4" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpu-memory", "80"), "--gpu-memory = '80': expected a size such as 80GB"),
        (("--nodes", "0"), "--nodes = 0: expected a number above 0"),
        (("model.stile=paper",), "model.stile"),
    ],
)
def test_bad_input_is_one_line(recipe: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = run(str(recipe), *arguments)
    assert ran.returncode == 2
    lines = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in ran.stderr
