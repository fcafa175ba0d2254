"""docs/tasks.md says what is so."""

import json
import re
from pathlib import Path

from flamingo_ds.evaluation.tasks import TASKS, load_task
from flamingo_ds.evaluation.tasks.finish import SUPPORT_SAMPLES, SUPPORT_SAMPLES_A_CLASS
from flamingo_ds.evaluation.tasks.jsonl import LINE_FIELDS, TASK_FIELDS

TEXT = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
OWN = TEXT[TEXT.index("## A task of your own") :]


def first_column(text):
    return {name for row in re.findall(r"^\| (`[^|]*)", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}


def test_every_task_has_its_row():
    assert first_column(TEXT[: TEXT.index("## Prompts")]) == set(TASKS)


def test_every_field_of_a_task_of_ones_own_has_its_row():
    assert first_column(OWN) == LINE_FIELDS | TASK_FIELDS


def test_the_support_set_is_as_large_as_it_says():
    assert f"{SUPPORT_SAMPLES:,} samples, of classes {SUPPORT_SAMPLES_A_CLASS} each" in TEXT


def test_its_example_is_a_task(write, tmp_path):
    examples = [json.loads(line) for line in re.findall(r"^    (\{.*\})$", OWN, re.MULTILINE)]
    lines, (settings,) = examples[:-1], examples[-1:]
    write("queries.jsonl", lines)
    for line in lines:
        write(line["image"])
    task = load_task("jsonl", tmp_path)
    assert [query.answers for query in task.queries] == [("a dax",), ("a wug", "wug")]
    write("queries.jsonl", lines[:1])
    write("task.json", settings)
    assert load_task("jsonl", tmp_path).options == ("a dax", "a wug")
