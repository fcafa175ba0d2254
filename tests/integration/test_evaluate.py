"""The evaluation's command line: a tiny exported model on tasks of ten pictures."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE, EXIT_STOPPED
from flamingo_ds.evaluate import main
from flamingo_ds.evaluation import run
from flamingo_ds.evaluation.report import read_report
from tests.evaluating import ANSWERS, write_export, write_task
from tests.tiny import write_open_clip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("model") / "hf")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return [write_task(folder / "written"), write_task(folder / "chosen", closed=True)]


@pytest.fixture(scope="module")
def usual(model, tasks):
    """Arguments but for the file of the results."""
    named = [part for path in tasks for part in ("--task", f"jsonl={path}")]
    return [str(model), *named, "--shots", "0,2,4", "--batch-size", "4", "--device", "cpu"]


@pytest.fixture(scope="module")
def whole(usual, tmp_path_factory):
    """The report of one process that nobody interrupts."""
    path = tmp_path_factory.mktemp("whole") / "report.json"
    assert main([*usual, "--ensemble", "2", "--seeds", "0,1", "--json", str(path)]) == EXIT_DONE
    return path


def predictions(path):
    """Everything of a report but when and by whom."""
    return json.loads(path.read_text())["tasks"]


def test_every_query_is_answered_and_scored(whole):
    written, chosen = read_report(whole).tasks
    # Nothing is drawn for a close-ended prompt of no examples: one seed stands for all.
    assert [(cell.shots, cell.seed) for cell in written.cells] == [(n, seed) for n in (0, 2, 4) for seed in (0, 1)]
    assert [(cell.shots, cell.seed) for cell in chosen.cells] == [(0, 0), (2, 0), (2, 1), (4, 0), (4, 1)]
    for cell in (*written.cells, *chosen.cells):
        assert [one.key for one in cell.predictions] == [f"queries-{number}.png" for number in range(10)]
        assert not cell.skipped
    assert {len(one.examples) for one in written.cells[0].predictions} == {2}  # shown without their pictures
    assert {len(one.prompt_media) for one in written.cells[0].predictions} == {1}
    for one in chosen.cells[1].predictions:
        assert len(one.examples) == 2
        assert len(one.prompt_media) == 3
        assert one.text == max(one.log_likelihoods, key=one.log_likelihoods.get)
    right = [one.text in one.references for one in chosen.cells[1].predictions]
    assert chosen.cells[1].scores["accuracy"].value == pytest.approx(sum(right) / 10)


def test_two_ranks_give_the_same_to_the_last_bit(usual, whole, tmp_path):
    path = tmp_path / "report.json"
    command = ["--standalone", "--nproc_per_node", "2", "-m", "flamingo_ds.evaluate", *usual, "--json", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *command, "--ensemble", "2", "--seeds", "0,1"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "report.json.journal").glob("rank-*.jsonl"))) == 2
    assert predictions(path) == predictions(whole)


def test_an_interrupted_run_goes_on_where_it_stopped(usual, whole, tmp_path, monkeypatch, capsys):
    """The last line is cut off in its middle, and was another rank's."""
    path, more = tmp_path / "report.json", ["--ensemble", "2", "--seeds", "0,1"]
    answered, answer = [], run.answer

    def counted(answerer, reader, batch):
        answered.append([question.sample.key for question in batch])
        if len(answered) == 7:
            os.kill(os.getpid(), signal.SIGTERM)  # the batch is still finished
        return answer(answerer, reader, batch)

    monkeypatch.setattr(run, "answer", counted)
    assert main([*usual, *more, "--json", str(path)]) == EXIT_STOPPED
    assert "stopped on SIGTERM; the same command goes on from here" in capsys.readouterr().out
    assert len(answered) == 7
    assert not path.exists()
    own = tmp_path / "report.json.journal" / "rank-0000.jsonl"
    own.write_bytes(own.read_bytes()[:-20])
    own.rename(own.with_name("rank-0003.jsonl"))
    monkeypatch.setattr(run, "answer", answer)
    asked = []
    monkeypatch.setattr(run, "answer", lambda *given: asked.append(given[2]) or answer(*given))
    assert main([*usual, *more, "--json", str(path)]) == EXIT_DONE
    # 11 cells of 3 batches; of the 7 answered ones the last had lost a line.
    assert len(asked) == 33 - 6
    assert predictions(path) == predictions(whole)


def test_a_finished_run_asks_nothing_and_more_shots_ask_only_for_those(usual, tmp_path, monkeypatch):
    path, asked, answer = tmp_path / "report.json", [], run.answer
    monkeypatch.setattr(run, "answer", lambda *given: asked.append(given[2][0].cell.shots) or answer(*given))
    few = [*usual[:-6], "--batch-size", "4", "--device", "cpu", "--json", str(path), "--limit", "4"]
    for shots, wanted in (("0", {0}), ("0", set()), ("0,2", {2})):
        asked.clear()
        assert main([*few, "--shots", shots]) == EXIT_DONE
        assert set(asked) == wanted


def test_other_settings_are_refused_beside_old_answers(usual, model, tmp_path, capsys):
    path = tmp_path / "report.json"
    assert main([*usual, "--limit", "2", "--json", str(path)]) == EXIT_DONE
    assert main([*usual, "--limit", "2", "--json", str(path), "--ensemble", "6"]) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert "answers given with ensemble 6, not 1; remove it to begin anew" in message
    assert message.count("\n") == 1


def test_similar_examples(usual, tmp_path):
    path = tmp_path / "report.json"
    assert main([*usual, "--select", "rices", "--json", str(path), "--seeds", "0,1"]) == EXIT_DONE
    written, _ = read_report(path).tasks
    assert [(cell.shots, cell.seed) for cell in written.cells] == [(0, 0), (0, 1), (2, 0), (4, 0)]
    for two, four in zip(written.cells[2].predictions, written.cells[3].predictions, strict=True):
        assert two.examples == four.examples[-2:]  # the most similar stand last


def test_classes_are_evened_out_or_not(model, tasks, tmp_path):
    path = tmp_path / "report.json"
    asked = [str(model), "--task", f"jsonl={tasks[1]}", "--shots", "3", "--device", "cpu", "--json", str(path)]
    counts = {}
    for flag in ("--balanced", "--no-balanced"):
        assert main([*asked, flag]) == EXIT_DONE
        (cell,) = read_report(path).tasks[0].cells
        counts[flag] = {len({int(key[8:-4]) % len(ANSWERS) for key in one.examples}) for one in cell.predictions}
        shutil.rmtree(tmp_path / "report.json.journal")
    assert counts["--balanced"] == {3}  # of every class one
    assert min(counts["--no-balanced"]) < 3


def test_prompts_are_shown_before_the_model_is_loaded(usual, tmp_path, monkeypatch, capsys):
    def loaded(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr("flamingo_ds.evaluation.models.ours.ExportSource.load", loaded)
    assert main([*usual, "--show", "1", "--dry-run", "--json", str(tmp_path / "report.json")]) == EXIT_DONE
    shown = capsys.readouterr().out
    assert shown.count("---") == 6
    assert "<image 3>Output:\n  image 1: " in shown
    assert not list(tmp_path.iterdir())


def test_unreadable_pictures_are_counted_by_kind(model, tmp_path):
    folder = write_task(tmp_path / "task", closed=True, support=3, queries=4)
    (folder / "queries-1.png").write_bytes(b"no picture")
    (folder / "support-0.png").write_bytes((folder / "support-0.png").read_bytes()[:200])
    path = tmp_path / "report.json"
    task = ["--task", f"jsonl={folder}", "--shots", "0,3", "--device", "cpu"]
    assert main([str(model), *task, "--json", str(path)]) == EXIT_DONE
    without, with_examples = read_report(path).tasks[0].cells
    assert without.skipped == {"unreadable_image": 1}
    assert len(without.predictions) == 3
    assert with_examples.skipped == {"unreadable_image": 1, "example_truncated_image": 3}
    assert not with_examples.predictions


MISTAKES = {
    "no task of that name": (["--task", "cocoa=/nowhere"], "--task = 'cocoa'", "one of"),
    "no path": (["--task", "coco"], "--task = 'coco'", "NAME=PATH"),
    "no such folder": (["--task", "coco=/nowhere"], "'/nowhere'", "the folder of coco"),
    "no numbers": (["--shots", "0,many"], "--shots = '0,many'", "numbers with commas"),
    "twice the same": (["--shots", "4,4"], "--shots = '4,4'", "different numbers"),
    "too many shots": (["--shots", "13"], "--shots = 13", "at most 12"),
    "more than the context": (["--shots", "12", "--task", "LONG"], "--shots = 12", "prompts of at most 2048 tokens"),
    "few to choose from": (["--support-limit", "3", "--shots", "4"], "--shots = 4", "at most 3"),
    "no support": (["--support-limit", "0"], "--support-limit = 0", "1 or more"),
    "nothing to balance": (["--balanced", "--shots", "2"], "--balanced = True", "one list of options"),
    "no batch": (["--batch-size", "0"], "--batch-size = 0", "1 or more"),
    "no device": (["--device", "abacus"], "--device = 'abacus'", "a device of this machine"),
    "no place for results": (
        ["--json", "/proc/nowhere/x.json", "--shots", "0"],
        "--json = '/proc/nowhere'",
        "written to",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, model, tasks, tmp_path, capsys):
    given, what, expected = MISTAKES[name]
    if "LONG" in given:
        long = write_task(tmp_path / "long", queries=1)
        lines = [json.loads(line) for line in (long / "support.jsonl").read_text().splitlines()]
        lines = [line | {"answer": "x y " * 100} for line in lines]
        (long / "support.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        given = [part if part != "LONG" else f"jsonl={long}" for part in given]
    rest = [] if "--task" in given else ["--task", f"jsonl={tasks[0]}"]
    rest += [] if "--json" in given else ["--json", str(tmp_path / "report.json")]
    assert main([str(model), *given, *rest]) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert what in message
    assert expected in message
    assert message.count("\n") == 1


def test_similar_examples_want_a_support_set_with_pictures(model, tasks, tmp_path, capsys):
    for name in ("support.jsonl",):
        folder = write_task(tmp_path / "bare", queries=2)
        (folder / name).unlink()
        task = ["--task", f"jsonl={folder}", "--shots", "2", "--select", "rices", "--device", "cpu"]
        assert main([str(model), *task, "--json", str(tmp_path / "report.json")]) == EXIT_BAD_INPUT
        assert capsys.readouterr().err.count("\n") == 1


def test_retrieval_is_handed_over(tasks, tmp_path, capsys):
    folder = tmp_path / "clip"
    write_open_clip(folder, text_cfg={"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1})
    model, path = f"local-dir:{folder}", tmp_path / "report.json"
    assert main([model, "--task", f"retrieval={tasks[0]}", "--json", str(path), "--limit", "6"]) == EXIT_DONE
    (cell,) = read_report(path).tasks[0].cells
    assert cell.scores["image_to_text_recall_at_10"].value == 1.0  # three different captions
    assert "image_to_text_recall_at_1" in capsys.readouterr().out
    both = ["--task", f"retrieval={tasks[0]}", "--task", f"jsonl={tasks[0]}"]
    assert main([model, *both, "--json", str(path)]) == EXIT_BAD_INPUT
    assert "retrieval alone: MODEL is a contrastive one of open_clip then" in capsys.readouterr().err
