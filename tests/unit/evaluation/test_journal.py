import json

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.evaluation.answering import Skip
from flamingo_ds.evaluation.journal import Journal
from flamingo_ds.evaluation.questions import CellPlan, Question
from flamingo_ds.evaluation.results import Prediction
from flamingo_ds.evaluation.task import Answering, Sample, Task

QUERIES = [Sample(str(number), ()) for number in range(4)]
CELL = CellPlan(Task("jsonl", Answering.open_ended, [], QUERIES, ("cider",)), 4, 1)
QUESTIONS = [Question(CELL, query, [[]]) for query in QUERIES]
OUTCOMES = [
    Prediction("0", "a \u2028 seven\nor so", ("seven", "7"), media=("a.png",), examples=("3",)),
    Skip("1", "unreadable_image"),
    Prediction("2", "", ("x",), log_likelihoods={"a": -1.25, "b": -0.1}, prompt_media=("a.png", "b.png")),
    Prediction("3", "d", ()),
]


@pytest.fixture
def report(tmp_path):
    return tmp_path / "report.json"


def written(report, rank=0, count=4):
    journal = Journal(report, rank)
    journal.begin({"model": "m", "batch_size": 8}, {"t": "data"}, True)
    journal.add(QUESTIONS[:count], OUTCOMES[:count], "t")
    return journal


def opened(report):
    journal = Journal(report, 0)
    journal.read()
    return journal


def test_what_was_written_is_there_again(report):
    written(report)
    journal = opened(report)
    assert [journal.outcome(CELL, query.key, "t") for query in QUERIES] == OUTCOMES
    assert not journal.missing(QUESTIONS, "t")


def test_a_place_is_task_shots_seed_and_key(report):
    written(report)
    journal = opened(report)
    assert journal.missing(QUESTIONS[:1], "another task")
    for cell in (CellPlan(CELL.task, 8, 1), CellPlan(CELL.task, 4, 0)):
        assert journal.missing([Question(cell, QUERIES[0], [[]])], "t")


def test_the_answers_of_ranks_that_are_no_more(report):
    written(report, rank=0, count=1)
    other = Journal(report, 5)
    other.begin({}, {}, False)
    other.add(QUESTIONS[1:3], OUTCOMES[1:3], "t")
    journal = opened(report)
    assert not journal.missing(QUESTIONS[:3], "t")
    assert journal.missing(QUESTIONS, "t")


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_line_cut_off_by_a_kill_is_asked_again_and_spoils_no_other(report, cut):
    journal = written(report, count=2)
    journal.own.write_bytes(journal.own.read_bytes()[:-cut])
    again = opened(report)
    # Without its line break alone a line is still whole.
    assert again.missing(QUESTIONS[1:2], "t") == (cut > 1)
    again.add(QUESTIONS[1:], OUTCOMES[1:], "t")
    last = opened(report)
    assert [last.outcome(CELL, query.key, "t") for query in QUERIES] == OUTCOMES


def test_other_settings_or_data_are_refused(report):
    written(report)
    with pytest.raises(ConfigError, match="given with batch_size 4, not 8; remove it to begin anew"):
        Journal(report, 0).begin({"model": "m", "batch_size": 4}, {"t": "data"}, True)
    with pytest.raises(ConfigError, match="given with data of t 'changed', not 'data'"):
        Journal(report, 0).begin({"model": "m", "batch_size": 8}, {"t": "changed"}, True)


def test_more_tasks_may_come_and_the_first_are_remembered(report):
    journal = written(report)
    same = {"model": "m", "batch_size": 8}
    Journal(report, 0).begin(same, {"u": "more"}, True)
    content = json.loads((journal.folder / "settings.json").read_text())
    assert content == {"settings": same, "tasks": {"t": "data", "u": "more"}}
    with pytest.raises(ConfigError, match="data of t"):
        Journal(report, 0).begin(same, {"t": "changed"}, True)


def test_damaged_settings_and_a_place_that_cannot_be_written_to(report):
    journal = written(report)
    (journal.folder / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match="a journal's settings"):
        Journal(report, 0).begin({}, {}, True)
    report.write_text("")
    with pytest.raises(ConfigError, match="a place that can be written to"):
        Journal(report / "x.json", 0).begin({}, {}, True)
