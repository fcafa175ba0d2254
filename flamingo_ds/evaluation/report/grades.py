"""Which answers are right, for a page that shows both kinds."""

from collections.abc import Sequence

import numpy

from ..results import Prediction
from ..scores import SCORES
from ..scores.per_query import PerQuery


def grades(score: str, predictions: Sequence[Prediction]) -> list[float]:
    """Of each answer, the higher the better: the score's own; where it has none a query, whether it is a reference."""
    judge = SCORES.get(score)
    if judge is not None and (isinstance(judge, PerQuery) or score == "cider"):
        return judge.statistics(predictions)[:, 0].tolist()
    return [float(prediction.text in prediction.references) for prediction in predictions]


def right_and_wrong(score: str, marks: Sequence[float], each: int) -> tuple[list[int], list[int]]:
    """Places of up to so many good and bad answers, spread evenly over all of either kind.

    Good are those of a grade of at least 0.5; of captions, whose CIDEr has no such mark, the better half.
    """
    all_marks = numpy.array(marks)
    threshold = max(float(numpy.median(all_marks)), 1e-9) if score == "cider" else 0.5
    good = all_marks >= threshold
    return _spread(numpy.flatnonzero(good), each), _spread(numpy.flatnonzero(~good), each)


def _spread(places: numpy.ndarray, count: int) -> list[int]:
    count = min(count, len(places))
    return [int(places[(2 * number + 1) * len(places) // (2 * count)]) for number in range(count)]
