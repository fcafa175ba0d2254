import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_ds.evaluation.choosing import Selection, choose, orders
from flamingo_ds.evaluation.draws import occurrence
from flamingo_ds.evaluation.task import Answering, Sample, Task


def sample_of(name, answer="x", **more):
    return Sample(str(name), (Path(f"{name}.jpg"),), "", (answer,), **more)


def task_of(support, queries, options=(), **more):
    answering = Answering.close_ended if options else Answering.open_ended
    return Task("a task", answering, support, queries, ("accuracy",), options=options, **more)


def marks(sample):
    return {("key", sample.key), *sample.media, *(("media", key) for key in sample.media_keys)}


@st.composite
def tasks(draw, least=1):
    """Keys, files and media keys out of few, so that many samples are duplicates."""
    options = tuple("abc"[: draw(st.integers(2, 3))]) if draw(st.booleans()) else ()

    def some(count):
        return [
            Sample(
                str(key),
                (Path(f"{draw(st.integers(0, 9))}.jpg"),),
                answers=(draw(st.sampled_from(options or "xyz")),),
                media_keys=tuple(draw(st.sets(st.sampled_from("mnop"), max_size=1))),
            )
            for key in draw(st.permutations(range(12)))[:count]
        ]

    return task_of(some(draw(st.integers(least, 12))), some(draw(st.integers(1, 4))), options)


def usable(task, query):
    return [index for index, sample in enumerate(task.support) if not marks(sample) & marks(query)]


def similarities(task):
    return numpy.array([numpy.random.default_rng(n).permutation(len(task.support)) for n in range(len(task.queries))])


@given(tasks(), st.integers(0, 4), st.sampled_from(Selection), st.sampled_from([None, False]))
def test_examples_are_different_and_never_the_query_in_any_guise(task, shots, selection, balanced):
    least = min(len(usable(task, query)) for query in task.queries)
    wanted = 0 if task.options else 2
    if shots > least:
        with pytest.raises(ValueError, match="at most"):
            choose(task, shots, 0, selection, similarities(task), balanced)
        return
    chosen = choose(task, shots, 0, selection, similarities(task), balanced)
    assert list(chosen) == [query.key for query in task.queries]
    for query in task.queries:
        indices = chosen[query.key]
        assert all(type(index) is int for index in indices)
        assert set(indices) <= set(usable(task, query))
        assert len(indices) == len(set(indices)) == (shots or min(wanted, len(usable(task, query))))


@given(tasks(least=6), st.integers(1, 6), st.sampled_from(Selection))
def test_classes_are_as_even_as_the_support_set_allows(task, shots, selection):
    task = replace(task, queries=[sample_of("query")], options=task.options or ("x", "y", "z"))
    (indices,) = choose(task, shots, 3, selection, similarities(task)).values()
    counts = Counter(task.support[index].answers[0] for index in indices)
    there = Counter(sample.answers[0] for sample in task.support)
    for label, count in counts.items():
        for other in there:
            assert counts[other] >= count - 1 or counts[other] == there[other], label


@given(tasks(), st.integers(0, 2), st.integers(0, 9))
def test_a_querys_examples_hang_on_nothing_but_itself(task, shots, seed):
    if shots > min(len(usable(task, query)) for query in task.queries):
        return
    together = choose(task, shots, seed)
    for query in task.queries:
        assert choose(replace(task, queries=[query]), shots, seed)[query.key] == together[query.key]


def test_random_examples_differ_from_query_to_query_and_from_seed_to_seed():
    task = task_of([sample_of(f"s{n}") for n in range(50)], [sample_of(f"q{n}") for n in range(20)])
    chosen = choose(task, 4, seed=0)
    assert len({tuple(indices) for indices in chosen.values()}) == 20
    assert chosen != choose(task, 4, seed=1)
    everything = Counter(index for indices in choose(task, 25, seed=0).values() for index in indices)
    assert set(everything) == set(range(50))  # of 20 x 25 draws each of 50 gets ten on average
    first = [indices[0] for indices in choose(task, 50, seed=0).values()]
    assert len(set(first)) > 10  # the order is random too


def test_nearest_examples_come_last():
    task = task_of([sample_of(n) for n in range(5)], [sample_of("q"), sample_of(3)])
    neighbours = numpy.array([[4, 2, 0, 1, 3], [3, 1, 4, 0, 2]])
    assert choose(task, 3, 0, "rices", neighbours) == {"q": [0, 2, 4], "3": [0, 4, 1]}
    assert choose(task, 3, 0, "rices", lambda number: neighbours[number]) == {"q": [0, 2, 4], "3": [0, 4, 1]}


def test_nearest_of_each_class_before_a_second_of_any():
    answers = "aaabbc"
    task = task_of([sample_of(n, answer) for n, answer in enumerate(answers)], [sample_of("q", "a")], tuple("abc"))
    nearest_first = numpy.array([[0, 1, 3, 2, 5, 4]])
    assert choose(task, 2, 0, "rices", nearest_first) == {"q": [3, 0]}
    assert choose(task, 4, 0, "rices", nearest_first) == {"q": [5, 3, 1, 0]}
    assert choose(task, 4, 0, "rices", nearest_first, balanced=False) == {"q": [2, 3, 1, 0]}


def test_zero_shots_are_two_texts_for_open_questions_and_none_for_closed_ones():
    support = [sample_of(n) for n in range(9)]
    assert [len(indices) for indices in choose(task_of(support, [sample_of("q")]), 0, 0).values()] == [2]
    assert choose(task_of([], [sample_of("q")]), 0, 0) == {"q": []}
    assert choose(task_of(support, [sample_of("q", "y")], ("x", "y")), 0, 0) == {"q": []}


def test_a_task_that_names_the_examples():
    task = task_of([sample_of(n) for n in range(9)], [sample_of("q"), sample_of("r")], episodes={"q": ["7", "2", "5"]})
    chosen = choose(task, 2, 0)
    assert chosen["q"] == [7, 2]
    assert chosen["r"] == choose(replace(task, episodes={}), 2, 0)["r"]
    assert choose(task, 0, 0)["q"] == [7, 2]
    assert choose(replace(task, episodes={"q": ["7"]}), 0, 0)["q"] == [7]


def test_what_is_refused(error_of):
    task = task_of([sample_of(n) for n in range(3)], [sample_of(0)])
    assert error_of(choose, task, 3, 0) == "--shots = 3: expected at most 2: a task has no more for query '0'"
    assert error_of(choose, task, -1, 0) == "--shots = -1: expected 0 or more"
    assert "a task with one list of options" in error_of(choose, task, 1, 0, balanced=True)
    named = replace(task, episodes={"0": ["1", "2"]})
    assert "at most 2" in error_of(choose, named, 3, 0)
    assert "neither the query itself" in error_of(choose, replace(task, episodes={"0": ["1", "0"]}), 1, 0)
    assert "keys of the support set" in error_of(choose, replace(task, episodes={"0": ["x"]}), 1, 0)


@given(st.integers(0, 5), st.integers(1, 30), st.integers(0, 5))
def test_orders_are_distinct_while_they_last(length, count, seed):
    found = orders("abcde"[:length], count, seed)
    assert len(found) == min(count, math.factorial(length)) == len({tuple(order) for order in found})
    assert found[0] == list("abcde"[:length])
    assert all(sorted(order) == found[0] for order in found)
    assert found == orders("abcde"[:length], count, seed)


def test_orders_of_many_examples():
    found = orders(list(range(32)), 6, seed=0)
    assert len({tuple(order) for order in found}) == 6
    assert found[1:] != orders(list(range(32)), 6, seed=1)[1:]


@given(st.lists(st.integers(0, 4), max_size=30))
def test_occurrence_counts_what_stands_before(classes):
    assert occurrence(numpy.array(classes, dtype=int)).tolist() == [
        classes[:place].count(label) for place, label in enumerate(classes)
    ]


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("classes", [0, 1000])
def test_a_hundred_thousand_samples_of_support(selection, classes):
    options = tuple(f"class {number}" for number in range(classes))
    answers = options or ("x",)
    support = [sample_of(n, answers[n % len(answers)]) for n in range(100_000)]
    task = task_of(support, [sample_of(n, answers[0]) for n in range(20)], options)
    neighbours = numpy.random.default_rng(0).permutation(100_000)
    start = time.process_time()
    chosen = choose(task, 16, 0, selection, lambda number: neighbours)
    # 0.05 to 0.3 s on one core; a loop over the support set for each query would take ten times as long.
    assert time.process_time() - start < 1
    assert all(len(indices) == 16 for indices in chosen.values())
