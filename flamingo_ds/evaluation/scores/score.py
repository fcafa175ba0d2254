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

    def check(self, key: str, references: Sequence[str], options: Sequence[str]) -> None:
        """Look at a query before it is asked: what people said, and what may be answered (empty if open-ended).

        Raises:
            ConfigError: no answer to it could be scored.
        """
        ...

    def statistics(self, predictions: Sequence[Prediction]) -> numpy.ndarray:
        """What each prediction adds: (N, K) float64. None is left out: an empty answer is a wrong one.

        Raises:
            ConfigError: of :meth:`check`.
        """
        ...

    def value(self, statistics: numpy.ndarray) -> float:
        """The score of those rows (N, K), which may be drawn with replacement; NaN where they do not define one."""
        ...
