"""BLEU-4 of a corpus (Papineni et al. 2002), with the smoothing and reference length of pycocoevalcap."""

from collections import Counter
from collections.abc import Sequence

import numpy

from ..results import Prediction
from .ngrams import LONGEST, NGram, ngrams
from .per_query import check_references
from .ptb_tokens import ptb_tokens

# Keep an empty answer and a precision of 0 from dividing by nothing.
TINY, SMALL = 1e-15, 1e-9


class Bleu4:
    """Geometric mean of the precisions of 1- to 4-grams, clipped by references, times the penalty for brevity."""

    name = "bleu4"

    def check(self, key: str, references: Sequence[str], options: Sequence[str]) -> None:
        """See :class:`Score`."""
        check_references(self.name, key, references, 1)

    def statistics(self, predictions: Sequence[Prediction]) -> numpy.ndarray:
        """(N, 10): matched n-grams of each length, n-grams of each length, words, words of the closest reference."""
        for prediction in predictions:
            self.check(prediction.key, prediction.references, ())
        rows = [
            counts(ptb_tokens(prediction.text), [ptb_tokens(reference) for reference in prediction.references])
            for prediction in predictions
        ]
        return numpy.array(rows, dtype=numpy.float64).reshape(-1, 2 * LONGEST + 2)

    def value(self, statistics: numpy.ndarray) -> float:
        """From the sums over the corpus."""
        if not len(statistics):
            return float("nan")
        sums = statistics.sum(axis=0)
        precisions = (sums[:LONGEST] + TINY) / (sums[LONGEST : 2 * LONGEST] + SMALL)
        ratio = (sums[-2] + TINY) / (sums[-1] + SMALL)
        penalty = numpy.exp(1 - 1 / ratio) if ratio < 1 else 1.0
        return float(precisions.prod() ** (1 / LONGEST) * penalty)


def counts(answer: Sequence[str], references: Sequence[Sequence[str]]) -> list[int]:
    """One row of :meth:`Bleu4.statistics`. Of two references as close the shorter one counts."""
    most: Counter[NGram] = Counter()
    for reference in references:
        most |= ngrams(reference)
    matched = [0] * LONGEST
    for ngram, count in ngrams(answer).items():
        matched[len(ngram) - 1] += min(count, most[ngram])
    there = [max(0, len(answer) - length) for length in range(LONGEST)]
    closest = min((abs(len(reference) - len(answer)), len(reference)) for reference in references)[1]
    return [*matched, *there, len(answer), closest]
