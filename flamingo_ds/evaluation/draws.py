"""Two ways to take examples out of a support set: at random, and the nearest. Only queries are looped over."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy

# (Q, K) indices of support samples for the queries in the task's order, the most similar first; or, for the number of
# a query, its row.
Neighbours = numpy.ndarray | Callable[[int], numpy.ndarray]
Forbidden = frozenset[int]


def generator(seed: int, key: str) -> numpy.random.Generator:
    """Random numbers that hang on a seed and a query's key alone."""
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=16).digest()
    return numpy.random.default_rng(int.from_bytes(digest))


def draw(rng: numpy.random.Generator, members: numpy.ndarray, count: int, forbidden: Forbidden) -> list[int]:
    """At most ``count`` different members, none of them forbidden, in random order."""
    drawn = rng.choice(members, min(len(members), count + len(forbidden)), replace=False)
    return [index for index in drawn.tolist() if index not in forbidden][:count]


class RandomDraw:
    """Examples at random, in random order.

    Args:
        classes: (S,) the class of each support sample, for as many of each class as of any other; None: no matter.
        size: S, of the support set.
        seed: of the choice.
    """

    def __init__(self, classes: numpy.ndarray | None, size: int, seed: int) -> None:
        self.seed = seed
        self.members = [numpy.arange(size)] if classes is None else _by_class(classes)

    def __call__(self, number: int, key: str, shots: int, forbidden: Forbidden) -> list[int]:
        """Indices for the query of that key; fewer than ``shots`` where the support set has no more."""
        rng = generator(self.seed, key)
        if len(self.members) == 1:
            return draw(rng, self.members[0], shots, forbidden)
        piles = (draw(rng, self.members[label], shots, forbidden) for label in rng.permutation(len(self.members)))
        taken = numpy.array(list(_in_turn(piles, shots)), dtype=int)
        return rng.permutation(taken).tolist()


@dataclass(frozen=True)
class NearestDraw:
    """The most similar examples, by increasing similarity (RICES).

    Attributes:
        neighbours: of every query.
        classes: (S,) the class of each support sample, for the nearest of each class before a second of any; None: no
            matter.
    """

    neighbours: Neighbours
    classes: numpy.ndarray | None

    def __call__(self, number: int, key: str, shots: int, forbidden: Forbidden) -> list[int]:
        """Indices for query ``number``; fewer than ``shots`` where it has no more neighbours."""
        row = self.neighbours(number) if callable(self.neighbours) else self.neighbours[number]
        row = numpy.asarray(row)
        if forbidden:
            row = row[~numpy.isin(row, list(forbidden))]
        if self.classes is not None:
            rounds = occurrence(self.classes[row])
            row = row[numpy.sort(numpy.argsort(rounds, kind="stable")[:shots])]
        return row[:shots][::-1].tolist()


def _by_class(classes: numpy.ndarray) -> list[numpy.ndarray]:
    """Indices of each class."""
    order = numpy.argsort(classes, kind="stable")
    return numpy.split(order, numpy.flatnonzero(numpy.diff(classes[order])) + 1)


def _in_turn(piles: Iterator[list[int]], shots: int) -> Iterator[int]:
    """One of each pile, then a second of each, ... ``shots`` in all; no more piles are made than that needs."""
    made: list[list[int]] = []
    taken = 0
    for pile in piles:
        made.append(pile)
        if pile:
            yield pile.pop()
            taken += 1
        if taken == shots:
            return
    while any(made):
        for pile in filter(None, made):
            yield pile.pop()
            taken += 1
            if taken == shots:
                return


def occurrence(classes: numpy.ndarray) -> numpy.ndarray:
    """How many of the same class stand before each entry."""
    order = numpy.argsort(classes, kind="stable")
    ordered = classes[order]
    first = numpy.searchsorted(ordered, ordered, side="left")
    counts = numpy.empty(len(classes), dtype=int)
    counts[order] = numpy.arange(len(classes)) - first
    return counts
