"""Sequences of one to four words, which captions are compared by."""

from collections import Counter
from collections.abc import Sequence

LONGEST = 4
NGram = tuple[str, ...]


def ngrams(tokens: Sequence[str]) -> Counter[NGram]:
    """How often each stands there."""
    return Counter(
        tuple(tokens[start : start + length])
        for length in range(1, LONGEST + 1)
        for start in range(len(tokens) - length + 1)
    )
