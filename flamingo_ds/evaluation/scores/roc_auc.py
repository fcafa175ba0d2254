"""Area under the ROC curve of yes-or-no answers (hateful memes; paper, table 1)."""

from collections.abc import Sequence

import numpy

from ...config import ConfigError
from ..results import Prediction

POSITIVE, NEGATIVE = "yes", "no"


class RocAuc:
    """How often a positive query is given a greater log-likelihood of yes over no than a negative one; ties half."""

    name = "roc_auc"

    def check(self, key: str, references: Sequence[str], options: Sequence[str]) -> None:
        """See :class:`Score`: the options must be ``yes`` and ``no``, and the first reference one of them."""
        if set(options) != {POSITIVE, NEGATIVE}:
            raise ConfigError(f"options of {key!r}", list(options), f"{POSITIVE!r} and {NEGATIVE!r}, for {self.name}")
        if not references or references[0] not in options:
            raise ConfigError(f"answers of {key!r}", list(references), f"{POSITIVE!r} or {NEGATIVE!r}")

    def statistics(self, predictions: Sequence[Prediction]) -> numpy.ndarray:
        """(N, 2): log-likelihood of yes over no, and whether yes is right."""
        rows = []
        for prediction in predictions:
            likelihoods = prediction.log_likelihoods or {}
            self.check(prediction.key, prediction.references, tuple(likelihoods))
            rows.append((likelihoods[POSITIVE] - likelihoods[NEGATIVE], prediction.references[0] == POSITIVE))
        return numpy.array(rows, dtype=numpy.float64).reshape(-1, 2)

    def value(self, statistics: numpy.ndarray) -> float:
        """By counting pairs (Mann-Whitney); NaN where all are positive or all negative."""
        _, place = numpy.unique(statistics[:, 0], return_inverse=True)
        positive = numpy.bincount(place, weights=statistics[:, 1])
        negative = numpy.bincount(place, weights=1 - statistics[:, 1])
        pairs = positive.sum() * negative.sum()
        below = negative.cumsum() - negative
        return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")
