"""Which examples a query sees (paper, appendix A.2), and in which orders."""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import numpy

from ..config import ConfigError
from .draws import Forbidden, NearestDraw, Neighbours, RandomDraw
from .duplicates import Duplicates
from .task import Answering, Task

# One text-only example alone would be repeated by the model (paper, appendix A.2).
ZERO_SHOT_EXAMPLES = 2

Item = TypeVar("Item")
Way = RandomDraw | NearestDraw


class Selection(StrEnum):
    """How examples are chosen."""

    random = "random"
    """Anew for each query, always the same for the same seed, key and support set."""
    rices = "rices"
    """The most similar, by increasing similarity: the most similar stands right before the query."""


def choose(
    task: Task,
    shots: int,
    seed: int,
    selection: Selection | str = Selection.random,
    neighbours: Neighbours | None = None,
    balanced: bool | None = None,
) -> Mapping[str, list[int]]:
    """Examples of every query: indices of ``task.support`` in the order of the prompt.

    They hang on nothing but the query, the support set and the seed, so that all ranks and a run that goes on agree.
    Never among them is the query itself or a duplicate: what has its key, or shares a file or a media key with it.
    Where the task itself names a query's examples (``task.episodes``), the first of them are taken.

    Args:
        task: of :func:`~flamingo_ds.evaluation.tasks.load_task`, which also limits the support set.
        shots: examples a query. With 0 an open-ended task still gives two, or what there is, to be shown without their
            media (``text_only`` of ``build_prompt``); a close-ended task none.
        seed: of the random choice.
        selection: ``random`` or ``rices``.
        neighbours: for ``rices``: (Q, K) support indices, the most similar first, or a function from a query's number
            to its row. K must leave enough when duplicates are taken out, and classes are evened out.
        balanced: as many of each class as of any other, as far as ``shots`` goes; RICES takes the most similar of each
            class before a second of any. None: where the task has one list of answers for all samples.

    Raises:
        ConfigError: more shots than a query has usable examples, or an episode that names its query or an unknown key.
    """
    if shots < 0:
        raise ConfigError("--shots", shots, "0 or more")
    if shots == 0 and task.answering is Answering.close_ended:
        return {query.key: [] for query in task.queries}
    duplicates = Duplicates(task.support, task.queries)
    places = {sample.key: place for place, sample in enumerate(task.support)} if task.episodes else {}
    way: Way = RandomDraw(None, len(task.support), seed)
    if shots > 0:
        way = _way(task, seed, Selection(selection), neighbours, bool(task.options) if balanced is None else balanced)
    chosen = {}
    for number, query in enumerate(task.queries):
        forbidden = duplicates.of(query)
        wanted = shots or min(ZERO_SHOT_EXAMPLES, len(task.support) - len(forbidden))
        if query.key in task.episodes:
            chosen[query.key] = _of_episode(task, query.key, places, forbidden)[:wanted]
        else:
            chosen[query.key] = way(number, query.key, wanted, forbidden)
        if (found := len(chosen[query.key])) < shots:
            raise ConfigError("--shots", shots, f"at most {found}: {task.name} has no more for query {query.key!r}")
    return chosen


def orders(examples: Sequence[Item], count: int, seed: int) -> list[list[Item]]:
    """Permutations of the examples for ensembling (paper, appendix A.2: 6), distinct while they last.

    Returns:
        At most ``count`` of them, the given order first.
    """
    if math.factorial(min(len(examples), 20)) <= count:
        return [list(order) for order in itertools.permutations(examples)]
    rng = random.Random(f"orders {seed}")
    places = list(range(len(examples)))
    found = {tuple(places): None}
    while len(found) < count:
        rng.shuffle(places)
        found[tuple(places)] = None
    return [[examples[place] for place in order] for order in itertools.islice(found, count)]


def classes_of(task: Task) -> numpy.ndarray:
    """(S,) which of the task's options each support sample is answered with.

    Raises:
        ConfigError: the task has no list of options.
    """
    if not task.options:
        raise ConfigError("--balanced", True, f"a task with one list of options; {task.name} has none")
    numbers = {option: number for number, option in enumerate(task.options)}
    labels = [numbers[sample.answers[0]] if sample.answers else -1 for sample in task.support]
    return numpy.array(labels, dtype=int)


def _way(task: Task, seed: int, selection: Selection, neighbours: Neighbours | None, balanced: bool) -> Way:
    classes = classes_of(task) if balanced else None
    if selection is Selection.random:
        return RandomDraw(classes, len(task.support), seed)
    assert neighbours is not None, "rices goes by neighbours"
    return NearestDraw(neighbours, classes)


def _of_episode(task: Task, key: str, places: Mapping[str, int], forbidden: Forbidden) -> list[int]:
    """Indices of the examples that the task names."""
    named = task.episodes[key]
    if unknown := [example for example in named if example not in places]:
        raise ConfigError(f"{task.name}: examples of {key!r}", unknown[0], "keys of the support set")
    indices = [places[example] for example in named]
    if own := [example for example, index in zip(named, indices, strict=True) if index in forbidden]:
        raise ConfigError(f"{task.name}: examples of {key!r}", own[0], "neither the query itself nor a duplicate of it")
    return indices
