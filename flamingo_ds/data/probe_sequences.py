"""The sequences of a probe in other guises: with each other's images, and behind examples."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from ..batch import IGNORED_LABEL
from .packing import join
from .sequence import TokenSequence


def with_shuffled_images(sequences: Sequence[TokenSequence]) -> list[TokenSequence]:
    """Every image in place of the one half of all images before it, so that none stays in its own sequence.

    Sequences with images a, b c, d and e f::

        images      a   b c   d   e f
        shuffled    d   e f   a   b c

    Raises:
        ValueError: one sequence has more than half of the images.
    """
    media = [image for sequence in sequences for image in sequence.media]
    half = len(media) // 2
    if (most := max(len(sequence.media) for sequence in sequences)) > half:
        raise ValueError(f"a sequence has {most} of all {len(media)} images")
    moved = iter(media[half:] + media[:half])
    return [replace(sequence, media=[next(moved) for _ in sequence.media]) for sequence in sequences]


def behind_examples(pairs: Sequence[TokenSequence], shots: int) -> list[TokenSequence]:
    """Every pair behind the ``shots`` pairs before it, the first behind the last ones; its own text alone is predicted.

    One shot::

        tokens      <bos> <image>  a  cat <EOC> <image> two dogs <EOC>
        labels         .      .    .   .    .       .   two dogs <EOC>
        media_ids      0      1    1   1    1       2    2   2     2

    So what is predicted is the same for every number of shots, and fewer are the end of more.

    Args:
        pairs: more than ``shots``.
        shots: examples of each.
    """
    examples = [replace(pair, labels=[IGNORED_LABEL] * len(pair.labels)) for pair in pairs]
    return [
        reduce(join, [*(examples[place] for place in range(query - shots, query)), pair])
        for query, pair in enumerate(pairs)
    ]
