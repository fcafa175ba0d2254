"""The proof at a tiny scale, end to end: too short to learn anything, long enough to leave a whole report."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_part_runs_and_the_report_is_whole(tmp_path):
    options = "--seeds 0 --ablations --pages 20 --lm-steps 3 --vision-steps 3 --steps 2 --episodes 6"
    command = [sys.executable, "tools/few_shot/run.py", "--root", tmp_path / "proof", *options.split(), "--any-lm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "proof/report.json").read_text())
    assert [point["shots"] for point in report["graded_curve"]] == [1, 2, 4, 8, 16]
    assert [point["shots"] for point in report["balanced_curve"]] == [2, 4, 8, 16, 32]
    assert report["two_way_4_shot"]["episodes"] == 6
    assert report["ablations"] == {}
    assert {"seed-0/lm", "seed-0/model", "seed-0/scores", "all"} <= report["seconds"].keys()
    for name in ("curves", "ablations", "prompt"):
        assert (tmp_path / f"proof/{name}.png").stat().st_size > 1000
    # What learned nothing keeps no promise, and the check says which.
    check = [sys.executable, "tools/few_shot/check.py", tmp_path / "proof/report.json"]
    checked = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert "error: seeds: [0]; expected three" in checked.stderr
    assert "error: language_model of seed 0" in checked.stderr


def test_a_job_that_fails_ends_the_proof(tmp_path):
    """A language model that cannot copy: nothing is made of it."""
    options = "--seeds 0 --ablations --pages 2 --lm-steps 1 --vision-steps 0 --steps 1 --episodes 2"
    command = [sys.executable, "tools/few_shot/run.py", "--root", tmp_path / "proof", *options.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "seed-0 lm ended with exit code 1" in done.stderr
    assert "cannot copy names" in (tmp_path / "proof/seed-0/logs/lm.log").read_text()
    assert not (tmp_path / "proof/report.json").exists()
