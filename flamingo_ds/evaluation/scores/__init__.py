"""Scores of answers: official definitions, bootstrap intervals."""

from collections.abc import Mapping, Sequence

from ...config import ConfigError
from ..results import Prediction
from ..task import Task
from .answers import Accuracy, ExactMatch, IvqaAccuracy, VqaAccuracy
from .bleu import Bleu4
from .bootstrap import interval
from .cider import Cider
from .roc_auc import RocAuc
from .score import Score

__all__ = ["SCORES", "Score", "check_scores", "count_empty", "interval"]

SCORES: Mapping[str, Score] = {
    score.name: score for score in (VqaAccuracy(), IvqaAccuracy(), Cider(), Bleu4(), Accuracy(), RocAuc(), ExactMatch())
}


def check_scores(task: Task) -> None:
    """Look at all queries of a task before any is asked: each score must be able to judge each answer.

    Raises:
        ConfigError: an unknown score, or a query that one of them could not judge.
    """
    for name in task.scores:
        if name not in SCORES:
            raise ConfigError(f"scores of task {task.name}", name, f"one of {', '.join(SCORES)}")
        for sample in task.queries:
            SCORES[name].check(sample.key, sample.answers, sample.options or task.options)


def count_empty(predictions: Sequence[Prediction]) -> int:
    """Answers without a letter. Scores take them as answers, which are wrong; a report says how many there are."""
    return sum(not prediction.text.strip() for prediction in predictions)
