"""At which place of a ranking the right item stands, in bounded memory and without sorting."""

from collections.abc import Sequence

import numpy

QUERIES = 128


def places(
    queries: numpy.ndarray, items: numpy.ndarray, right: Sequence[numpy.ndarray], columns: numpy.ndarray | None = None
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Rank items by decreasing similarity to each query; of equal ones the first comes first, as in a stable sort.

    Args:
        queries: features (Q, D).
        items: features (N, D).
        right: for each query which items are right, one at least.
        columns: (M,) the item of each of M entries of the ranking, where several entries share one (two captions of
            the same words); ``right`` and the result then count entries. None: the items themselves.

    Returns:
        (Q,) how many stand before the first right one, and (Q,) the entry that stands first.
    """
    before, first = numpy.empty(len(queries), numpy.int64), numpy.empty(len(queries), numpy.int64)
    for start in range(0, len(queries), QUERIES):
        similarities = queries[start : start + QUERIES] @ items.T
        if columns is not None:
            similarities = similarities[:, columns]
        for number, row in enumerate(similarities, start):
            own = numpy.sort(right[number])
            best = own[row[own].argmax()]
            before[number] = (row > row[best]).sum() + (row[:best] == row[best]).sum()
            first[number] = row.argmax()
    return before, first
