"""A score's value with its interval, by drawing queries again and again."""

from collections.abc import Sequence

import numpy

from ..results import Interval, Prediction
from .score import Score

CONFIDENCE = 0.95


def interval(score: Score, predictions: Sequence[Prediction], resamples: int = 1000, seed: int = 0) -> Interval:
    """Value over all predictions, and the percentile bootstrap interval (Efron 1979; 95 %) over queries.

    The same predictions in the same order give the same interval. Draws that define no value, as an AUC of positive
    queries alone, are left out of the interval; where all of them do, its ends are NaN as the value is.

    Raises:
        ConfigError: a prediction that cannot be scored.
    """
    statistics = score.statistics(predictions)
    value = score.value(statistics)
    if numpy.isnan(value):
        return Interval(value, value, value)
    rng = numpy.random.default_rng(seed)
    drawn = numpy.array(
        [score.value(statistics[rng.integers(len(statistics), size=len(statistics))]) for _ in range(resamples)]
    )
    tail = 50 * (1 - CONFIDENCE)
    low, high = numpy.nanpercentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
