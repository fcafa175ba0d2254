"""Scores that are a mean over queries."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy

from ...config import ConfigError
from ..results import Prediction


class PerQuery(ABC):
    """Each query has a score of its own, and the whole is their mean.

    Attributes:
        name: in tables and JSON.
        least_references: a query needs so many.
    """

    name: str
    least_references = 1

    @abstractmethod
    def of(self, text: str, references: Sequence[str]) -> float:
        """One answer's score."""

    def check(self, key: str, references: Sequence[str], options: Sequence[str]) -> None:
        """See :class:`Score`."""
        check_references(self.name, key, references, self.least_references)

    def statistics(self, predictions: Sequence[Prediction]) -> numpy.ndarray:
        """(N, 1)."""
        for prediction in predictions:
            self.check(prediction.key, prediction.references, ())
        scores = [self.of(prediction.text, prediction.references) for prediction in predictions]
        return numpy.array(scores, dtype=numpy.float64).reshape(-1, 1)

    def value(self, statistics: numpy.ndarray) -> float:
        """Their mean."""
        return mean(statistics)


def mean(statistics: numpy.ndarray) -> float:
    """Of the first column; NaN of no rows."""
    return float(statistics[:, 0].mean()) if len(statistics) else float("nan")


def check_references(score: str, key: str, references: Sequence[str], least: int) -> None:
    """Refuse a query that fewer than ``least`` people answered.

    Raises:
        ConfigError: it.
    """
    if len(references) < least:
        raise ConfigError(f"answers of {key!r}", list(references), f"at least {least}, for {score}")
