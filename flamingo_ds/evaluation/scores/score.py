"""What every score is: numbers a prediction, and one value from any set of them, so that all are bootstrapped alike."""

from collections.abc import Sequence
from typing import Protocol

import numpy

from ..results import Prediction


class Score(Protocol):
    """A score, the higher the better.

    Attributes:
        name: in tables and JSON.
    """

    name: str

    def statistics(self, predictions: Sequence[Prediction]) -> numpy.ndarray:
        """What each prediction adds: (N, K) float64."""
        ...

    def value(self, statistics: numpy.ndarray) -> float:
        """The score of those rows (N, K), which may be drawn with replacement."""
        ...
