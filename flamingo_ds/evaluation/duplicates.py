"""Which support samples are the query itself, in whatever guise: they are never among its examples."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from .task import Sample


class Duplicates:
    """Support samples of a query's key, or that share a file or a media key with it.

    Both lists are read once; a query costs as much as it has duplicates.
    """

    def __init__(self, support: Sequence[Sample], queries: Sequence[Sample]) -> None:
        wanted = {mark for query in queries for mark in _marks(query)}
        self._found: dict[str, list[int]] = defaultdict(list)
        for index, sample in enumerate(support):
            for mark in _marks(sample):
                if mark in wanted:
                    self._found[mark].append(index)

    def of(self, query: Sample) -> frozenset[int]:
        """Indices of the support set."""
        return frozenset(index for mark in _marks(query) for index in self._found.get(mark, ()))


def _marks(sample: Sample) -> Iterator[str]:
    yield f"key {sample.key}"
    for path in sample.media:
        yield f"file {path}"
    for key in sample.media_keys:
        yield f"media {key}"
