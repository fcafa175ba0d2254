"""A score's value with its interval, by drawing queries again and again."""

from collections.abc import Callable, Sequence

import numpy

from ..results import Interval, Prediction
from .score import Score

CONFIDENCE = 0.95


def interval(score: Score, predictions: Sequence[Prediction], resamples: int = 1000, seed: int = 0) -> Interval:
    """A score's value over all predictions, with the interval of :func:`resampled`.

    Raises:
        ConfigError: a prediction that cannot be scored.
    """
    return resampled(score.statistics(predictions), score.value, resamples, seed)


def resampled(
    statistics: numpy.ndarray, value_of: Callable[[numpy.ndarray], float], resamples: int = 1000, seed: int = 0
) -> Interval:
    """Value of all rows (N, K), and the percentile bootstrap interval (Efron 1979; 95 %) over rows.

    The same rows in the same order give the same interval. Draws that define no value, as an AUC of positive queries
    alone, are left out of it; where there is no value, its ends are NaN too.
    """
    value = value_of(statistics)
    if numpy.isnan(value):
        return Interval(value, value, value)
    rng = numpy.random.default_rng(seed)
    count = len(statistics)
    drawn = [value_of(statistics[rng.integers(count, size=count)]) for _ in range(resamples)]
    tail = 50 * (1 - CONFIDENCE)
    low, high = numpy.nanpercentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
