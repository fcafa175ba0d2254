"""Which code a job ends with, whatever its launcher says."""

import json
from pathlib import Path

import pytest

from flamingo_ds.launching.attempts import RankEnd
from flamingo_ds.launching.exit_code import exit_code, main


def rank(number: int, code: int | None, ended: float = 1.0, follows: bool = False) -> RankEnd:
    return RankEnd("17", 0, "n1", number, 2, 0.0, None if code is None else ended, code, follows=follows)


@pytest.mark.parametrize(
    ("ends", "launcher", "expected"),
    [
        ([rank(0, 85), rank(1, 85)], 85, 85),
        ([rank(0, 85), rank(1, 85)], 1, 85),  # torchrun
        ([rank(0, 85), rank(1, None)], 137, 85),  # killed by srun between its last save and its end
        ([rank(0, 86), rank(1, 86)], 86, 86),
        ([rank(0, 1, follows=True), rank(1, 3, ended=2.0)], 143, 3),  # the cause, not who noticed it first
        ([rank(0, 1, follows=True), rank(1, None)], 137, 1),
        ([rank(0, None), rank(1, None)], 137, 137),
        ([rank(0, 2), rank(1, 2)], 2, 2),
        ([rank(0, None), rank(1, None)], 0, 1),  # a killed deepspeed
        ([], 0, 1),  # srun that started nothing
        ([], 85, 1),
        ([rank(0, 0), rank(1, 0)], 0, 1),  # no flag, not done
    ],
)
def test_exit_code(ends: list[RankEnd], launcher: int, expected: int) -> None:
    assert exit_code(ends, launcher, finished=False) == expected
    assert exit_code(ends, launcher, finished=True) == 0


def test_only_the_start_under_way_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {"job": "17", "restart": 0, "node": "n1", "rank": 0, "ranks": 1}
    lines = [{"time": 1.0, "event": "start", **about}, {"time": 2.0, "event": "end", **about, "code": 85}]
    (tmp_path / "logs/17").mkdir(parents=True)
    (tmp_path / "logs/17/n1-0.ends").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    for restart, expected in (("0", "85"), ("1", "137")):
        monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
        assert main([str(tmp_path), "137"]) == 0
        assert capsys.readouterr().out.strip() == expected
