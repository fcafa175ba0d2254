"""What the page says of run folders as ranks leave them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flamingo_ds.launching import exit_record
from flamingo_ds.launching.exit_record import ExitRecord
from flamingo_ds.launching.launch import Launch
from flamingo_ds.launching.run_files import RunFiles
from flamingo_ds.launching.summary import main, summarise

Start = Callable[..., list[ExitRecord]]


@pytest.fixture
def clock(monkeypatch):
    """Seconds since 1970; each line that is written takes one."""
    now = [1_700_000_000.0]

    def tick() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr(exit_record.time, "time", tick)
    return now


@pytest.fixture
def run(tmp_path, clock) -> RunFiles:
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.yaml").write_text("seed: 0\ntrain:\n  max_steps: 300\n  save_every: 10\n")
    return RunFiles(path)


@pytest.fixture
def start(run) -> Start:
    """Begin a start of the run on two nodes of two ranks each."""

    def begin(restart: int = 0, job: str | None = "12", ranks: int = 4) -> list[ExitRecord]:
        records = []
        for rank in range(ranks):
            environment = {"SLURM_RESTART_COUNT": str(restart), "SLURMD_NODENAME": f"n{1 + rank // 2}"}
            environment |= {"SLURM_JOB_ID": job} if job else {}
            record = ExitRecord()
            record.begin(run.path, Launch(rank, rank % 2, ranks, "n1", 20000), environment)
            records.append(record)
        return records

    return begin


def finish(records: list[ExitRecord], code: int, step: int, **more: object) -> None:
    for record in records:
        record.step = step
        record.end(code, **more)


def lines_of(run: RunFiles) -> list[str]:
    return summarise(run).splitlines()


def test_a_run_that_was_stopped_and_went_on_to_its_end(run, start, clock):
    finish(start(), 85, 120, signal="SIGUSR1")
    clock[0] += 3600
    finish(start(restart=1), 0, 300)
    run.write_finished(300)
    rows = [{"step": step, "loss": 2.0, "tokens_per_s": 1000.0 + step, "images_per_s": 10.0} for step in range(1, 301)]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3')
    lines = lines_of(run)
    assert lines[:5] == [
        f"run            {run.path}: finished",
        "steps          300 of 300 (100 %), loss 2.0000",
        "throughput     1,250 tokens/s, 10 images/s (median of the last 100 steps)",
        "restarts       1",
        "ranks          4 on 2 nodes: 4 done (0)",
    ]
    assert lines[5].split() == ["start", "job", "began", "ran", "to", "step", "how", "rank", "0", "ended"]
    assert lines[6].endswith("0:00:04      120  stopped on a signal (85), SIGUSR1")
    assert lines[7].endswith("0:00:04      300  done (0)")
    assert lines[8] == f"logs           {run.logs / '12'}"


def test_the_rank_that_failed_by_itself_comes_first_with_its_traceback(run, start):
    finish(start(), 85, 20)
    records = start(restart=1)
    for record in (records[0], records[1]):
        record.follows = True
        finish([record], 1, 23, error="RuntimeError: Connection closed by peer")
    finish([records[2]], 1, 23, error="Traceback:\n  a line\nValueError: a shape")
    lines = lines_of(run)
    assert lines[:5] == [
        f"run            {run.path}: failed",
        "worst rank     rank 2 on n2: exit code 1 at step 23",
        "    Traceback:",
        "      a line",
        "    ValueError: a shape",
    ]
    assert "ranks          4 on 2 nodes: 3 failed (1), 1 no word" in lines


def test_a_rank_that_was_killed_is_named_by_its_silence(run, start):
    records = start()
    for record in records[:3]:
        record.follows = True
        finish([record], 1, 7, error="RuntimeError: Connection closed by peer")
    assert lines_of(run)[1:4] == [
        "worst rank     rank 3 on n2: no word of an end; killed, or the node is gone",
        "noticed by     rank 0 on n1: exit code 1 at step 7",
        "    RuntimeError: Connection closed by peer",
    ]


def test_a_run_without_any_word(run, start):
    start()
    assert lines_of(run)[:2] == [
        f"run            {run.path}: not finished",
        "worst rank     none of 4 ranks said how it ended: all were killed, or the run goes on",
    ]


@pytest.mark.parametrize(
    ("code", "state"), [(86, "stopped by the file stop"), (2, "wrong configuration"), (1, "failed")]
)
def test_the_state_follows_the_last_start(run, start, code, state):
    finish(start(), 1, 3, error="an earlier error")
    records = start(restart=1)
    finish(records, code, 5)
    assert lines_of(run)[0].endswith(f": {state}")
    assert "an earlier error" not in summarise(run)


def test_another_number_of_ranks_and_no_job_at_all(run, start, clock):
    finish(start(job=None), 85, 10)
    clock[0] += 60
    finish(start(job=None, ranks=2), 0, 20)
    lines = lines_of(run)
    assert "ranks          2 on 1 node: 2 done (0)" in lines
    assert "restarts       1" in lines
    assert lines[-1] == f"logs           {run.logs}"


def test_a_rank_that_never_started_is_counted(run, start):
    records = start()
    finish(records, 85, 3)
    (run.logs / "12/n2-3.ends").unlink()
    assert "ranks          4 on 2 nodes: 3 stopped on a signal (85), 1 never started" in lines_of(run)


def test_excluded_nodes_come_with_the_reason(run, start):
    finish(start(), 0, 1)
    attempts = [{"restart": 0, "bad": {"n3": "no space left"}}, {"restart": 1, "bad": {}}]
    (run.logs / "12/preflight-12.json").write_text(json.dumps({"bad": {}, "attempts": attempts}))
    assert "excluded       n3: no space left" in lines_of(run)


def test_many_starts_stay_one_page(run, start, clock):
    for restart in range(50):
        finish(start(restart=restart, ranks=1), 85, restart)
    lines = lines_of(run)
    assert len(lines) < 40
    assert "  ... 30 earlier ones" in lines
    assert "restarts       49" in lines


def test_a_folder_where_nothing_ran(run, capsys):
    assert main([str(run.path)]) == 0
    assert capsys.readouterr().out == f"run            {run.path}: no rank has started\n"
    assert run.summary.read_text() == f"run            {run.path}: no rank has started\n"
    assert main([str(run.path / "not")]) == 2
    assert capsys.readouterr().err == f"error: run_dir = '{run.path / 'not'}': expected the folder of a run\n"


def test_it_takes_a_moment_for_a_thousand_ranks_and_long_metrics(run, start):
    finish(start(ranks=1000), 85, 100_000)
    row = json.dumps({"step": 100_000, "loss": 2.0, "tokens_per_s": 1.0} | {f"gate/{n}/attn": 0.5 for n in range(30)})
    (run.path / "metrics.jsonl").write_text((row + "\n") * 20_000)
    command = [sys.executable, "-m", "flamingo_ds.launching.summary", str(run.path)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # 0.37 s with the writing of its records on two busy cores; ten times that where they are busier.
    assert time.monotonic() - began < 5.0
    assert "ranks          1000 on 500 nodes: 1000 stopped on a signal (85)" in done.stdout


def test_it_needs_the_standard_library_alone(run):
    code = (
        f"import sys; from flamingo_ds.launching.summary import main; main(['{run.path}']); print(sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert "omegaconf" not in done.stdout
    assert "flamingo_ds.launching.attempts" in done.stdout
