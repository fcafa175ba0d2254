import json
from pathlib import Path

import pytest

from flamingo_ds.launching.exit_record import ExitRecord
from flamingo_ds.launching.launch import Launch

LAUNCH = Launch(3, 1, 8, "10.0.0.1", 20000)
JOB = {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "2", "SLURMD_NODENAME": "n2"}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_rank_leaves_a_line_at_its_start_and_one_at_its_end(tmp_path):
    record = ExitRecord()
    record.begin(tmp_path, LAUNCH, JOB)
    record.step = 17
    record.end(85, "SIGUSR1")
    record.end(1, None, "no second end")
    start, end = lines(tmp_path / "logs/12/n2-3.ends")
    about = {"job": "12", "restart": 2, "node": "n2", "rank": 3, "ranks": 8}
    assert start == {"time": start["time"], "event": "start", **about}
    how = {"code": 85, "signal": "SIGUSR1", "step": 17, "follows": False, "error": []}
    assert end == {"time": end["time"], "event": "end", **about, **how}
    assert end["time"] >= start["time"]


def test_starts_add_up_and_a_killed_one_has_no_end(tmp_path):
    for _ in range(2):
        ExitRecord().begin(tmp_path, LAUNCH, {})
    assert [line["event"] for line in lines(tmp_path / "logs/rank-0003.ends")] == ["start", "start"]


def test_a_folder_that_is_made_later_gets_one_start(tmp_path):
    record, run = ExitRecord(), tmp_path / "run"
    record.begin(run, LAUNCH, JOB)
    assert not run.exists()
    run.mkdir()
    record.begin(run, LAUNCH, JOB)
    record.begin(run, LAUNCH, JOB)
    record.end(0)
    assert [line["event"] for line in lines(run / "logs/12/n2-3.ends")] == ["start", "end"]


def test_a_run_that_was_refused_before_it_had_a_folder_leaves_nothing(tmp_path):
    record = ExitRecord()
    record.end(2, None, "error: --recipe")
    record.begin(tmp_path / "run", LAUNCH, JOB)
    record.end(2, None, "error: batch_size")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (40, 40), (41, 41), (1000, 41)])
def test_a_long_traceback_keeps_both_its_ends(tmp_path, count, kept):
    record = ExitRecord()
    record.begin(tmp_path, LAUNCH, JOB)
    record.end(1, None, "\n".join(f"line {number}" for number in range(count)))
    error = lines(tmp_path / "logs/12/n2-3.ends")[1]["error"]
    assert (len(error), error[0], error[-1]) == (kept, "line 0", f"line {count - 1}")


def test_a_disk_that_takes_nothing_does_not_hide_how_it_ended(tmp_path):
    (tmp_path / "logs").write_text("a file where a folder should be")
    record = ExitRecord()
    record.begin(tmp_path, LAUNCH, JOB)
    record.end(1, None, "the error")
