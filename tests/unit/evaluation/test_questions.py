from pathlib import Path

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.evaluation.choosing import Selection
from flamingo_ds.evaluation.questions import ask, check_lengths, describe, limit_queries, plan_cells
from flamingo_ds.evaluation.task import Answering, Sample, Task


def task(answering=Answering.open_ended, options=(), **changes):
    support = [Sample(f"s{number}", (Path(f"s{number}.png"),), answers=("ab"[number % 2],)) for number in range(8)]
    queries = [Sample(f"q{number}", (Path(f"q{number}.png"),), answers=("a",)) for number in range(20)]
    return Task("t", answering, support, queries, ("cider",), options=options, **changes)


class Letters:
    """Counts letters as tokens, and a picture as ten."""

    def __init__(self, context):
        self.context_length = context

    def text(self, prompt):
        return "".join("<image>" * len(turn.media) + turn.instruction + (turn.answer or "") for turn in prompt)

    def count_tokens(self, prompt):
        return sum(10 * len(turn.media) + len(turn.instruction) + len(turn.answer or "") for turn in prompt)

    def longest(self, options):
        return max(map(len, options))


def places(cells):
    return [(cell.shots, cell.seed) for cell in cells]


def test_a_seed_counts_where_something_is_drawn():
    written, chosen = task(), task(Answering.close_ended, ("a", "b"))
    assert places(plan_cells(written, (0, 4), (0, 1), Selection.random)) == [(0, 0), (0, 1), (4, 0), (4, 1)]
    assert places(plan_cells(chosen, (0, 4), (0, 1), Selection.random)) == [(0, 0), (4, 0), (4, 1)]
    assert places(plan_cells(written, (0, 4), (0, 1), Selection.rices)) == [(0, 0), (0, 1), (4, 0)]
    assert places(plan_cells(chosen, (0, 4), (2, 1), Selection.rices)) == [(0, 2), (4, 2)]


def test_zero_shots_show_two_examples_without_pictures_where_the_model_writes():
    (cell,) = plan_cells(task(), (0,), (0,), Selection.random)
    for question in ask(cell, Selection.random, 6):
        assert [len(turn.media) for turn in question.prompts[0]] == [0, 0, 1]
        assert len(question.prompts) == 2  # two examples have no more orders
    (cell,) = plan_cells(task(Answering.close_ended, ("a", "b")), (0,), (0,), Selection.random)
    assert [len(turn.media) for turn in ask(cell, Selection.random, 6)[0].prompts[0]] == [1]


def test_orders_hold_the_same_examples():
    (cell,) = plan_cells(task(), (4,), (0,), Selection.random)
    for question in ask(cell, Selection.random, 6):
        assert len({tuple(one.key for one in order) for order in question.orders}) == 6
        assert len({frozenset(one.key for one in order) for order in question.orders}) == 1


def test_limits_hold_one_another_and_keep_the_order():
    queries = task().queries
    few, more = limit_queries(queries, 5), limit_queries(queries, 9)
    assert len(few) == 5
    assert set(few) < set(more)
    assert few == [query for query in queries if query in few]
    assert few != list(queries[:5])
    assert limit_queries(queries, None) == limit_queries(queries, 99) == list(queries)


def test_the_longest_prompt_with_its_answer_is_what_must_fit():
    # Five pictures of ten, five times "Output:", four answers of one letter, and an answer of six tokens.
    (cell,) = plan_cells(task(max_new_tokens=6), (4,), (0,), Selection.random)
    questions = ask(cell, Selection.random, 1)
    check_lengths(questions, Letters(50 + 35 + 4 + 6))
    check_lengths(questions, Letters(None))
    with pytest.raises(ConfigError, match=r"--shots = 4: expected prompts of at most 94 tokens .* has 95"):
        check_lengths(questions, Letters(94))
    (cell,) = plan_cells(task(Answering.close_ended, ("a", "b" * 7)), (0,), (0,), Selection.random)
    with pytest.raises(ConfigError, match="has 24"):
        check_lengths(ask(cell, Selection.random, 1), Letters(23))


def test_a_prompt_is_shown_with_the_place_of_each_picture():
    (cell,) = plan_cells(task(Answering.close_ended, ("a", "b")), (1,), (3,), Selection.random)
    question = ask(cell, Selection.random, 1)[0]
    example = question.orders[0][0]
    assert describe(question, Letters(None)).splitlines() == [
        "--- t, 1 shots, seed 3, query 'q0'",
        f"<image 1>Output:{example.answers[0]}<image 2>Output:",
        f"  image 1: {example.media[0]}",
        "  image 2: q0.png",
        "  2 options: 'a', 'b'",
    ]
