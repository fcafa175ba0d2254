"""The most similar samples, exactly, in bounded memory."""

from collections.abc import Iterable, Iterator

import numpy

from ...config import ConfigError

# Every product has the shape (QUERIES, D) (D, N): a query's similarities do not hang on which others are asked.
QUERIES = 512
NOBODY = numpy.iinfo(numpy.int64).min


def neighbours(queries: numpy.ndarray, support: Iterable[numpy.ndarray], most: int) -> numpy.ndarray:
    """For each query the most similar support samples, by decreasing cosine; of equal ones the first comes first.

    The query itself and duplicates of it are among them where they are in the support set.

    Args:
        queries: (Q, D) of length 1.
        support: blocks (N, D) of length 1, as of an :class:`~flamingo_ds.evaluation.rices.Index`; rows of NaN are
            unreadable samples and nobody's neighbours. Each block is read once.
        most: neighbours a query, at least 1.

    Returns:
        (Q, K) int64 places in the support set, K the lesser of ``most`` and the number of readable support samples.

    Raises:
        ConfigError: no readable support sample, or features of another width.
    """
    best = numpy.full((len(queries), most), NOBODY, numpy.int64)
    padded = numpy.zeros((-(-len(queries) // QUERIES) * QUERIES, queries.shape[1]), numpy.float32)
    padded[: len(queries)] = numpy.nan_to_num(queries)
    first = readable = 0
    for block in _joined(support, most, queries.shape[1]):
        good = ~numpy.isnan(block[:, 0])
        readable += int(good.sum())
        places = numpy.arange(first, first + len(block))
        for start in range(0, len(queries), QUERIES):
            similarities = padded[start : start + QUERIES] @ numpy.nan_to_num(block).T
            keys = numpy.where(good, _sort_keys(similarities, places), NOBODY)
            _keep_best(best[start : start + QUERIES], keys)
        first += len(block)
    if not readable:
        raise ConfigError("--select", "rices", "a support set with readable pictures")
    ordered = numpy.sort(best, axis=1)[:, ::-1]
    return (0xFFFFFFFF - (ordered & 0xFFFFFFFF))[:, : min(most, readable)]


def _joined(blocks: Iterable[numpy.ndarray], rows: int, width: int) -> Iterator[numpy.ndarray]:
    """Blocks of at least so many rows, as each costs a pass over the neighbours found so far."""
    waiting: list[numpy.ndarray] = []
    for block in blocks:
        if block.shape[1] != width:
            raise ConfigError("features", f"{block.shape[1]} and {width} wide", "of one encoder")
        waiting.append(block)
        if sum(map(len, waiting)) >= rows:
            yield numpy.concatenate(waiting)
            waiting = []
    if waiting:
        yield numpy.concatenate(waiting)


def _sort_keys(similarities: numpy.ndarray, places: numpy.ndarray) -> numpy.ndarray:
    """Integers in the order of (similarity, -place): no two are equal, so that no choice is left to the sort."""
    bits = (similarities + numpy.float32(0)).view(numpy.int32)  # -0 becomes 0
    ordered = numpy.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(numpy.int64)
    return (ordered << 32) | (0xFFFFFFFF - places)


def _keep_best(best: numpy.ndarray, keys: numpy.ndarray) -> None:
    """Put the greatest of both into ``best``, the least of them in its first column."""
    most = best.shape[1]
    keys = keys[: len(best)]  # the last queries are filled up
    better = numpy.flatnonzero(keys.max(axis=1) > best[:, 0])
    if len(better):
        both = numpy.concatenate([best[better], keys[better]], axis=1)
        best[better] = numpy.partition(both, both.shape[1] - most, axis=1)[:, -most:]
