import time

import numpy
import pytest

from flamingo_ds.evaluation.results import Prediction
from flamingo_ds.evaluation.scores import SCORES, interval


def some(right, count):
    return [Prediction(str(key), "a" if key < right else "b", ("a",)) for key in range(count)]


def test_interval_of_a_share_is_the_binomial_one():
    found = interval(SCORES["accuracy"], some(300, 1000), resamples=4000)
    spread = 1.96 * (0.3 * 0.7 / 1000) ** 0.5
    assert found.value == 0.3
    # 4,000 draws know a 95 % end to about 0.04 of the spread, whole answers to 0.001.
    assert found.low == pytest.approx(0.3 - spread, abs=0.003)
    assert found.high == pytest.approx(0.3 + spread, abs=0.003)


def test_same_seed_same_interval():
    first, again = (interval(SCORES["accuracy"], some(30, 100)) for _ in range(2))
    other = interval(SCORES["accuracy"], some(30, 100), resamples=200, seed=1)
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_bleu_is_drawn_as_a_corpus():
    answers = [
        Prediction(str(key), "a man on a bike" if key % 3 else "dogs", ("a man on a bike",)) for key in range(60)
    ]
    found = interval(SCORES["bleu4"], answers)
    assert found.low < found.value < found.high


def test_an_auc_without_negatives_has_no_interval_and_few_of_them_still_do():
    def rows(labels):
        return [
            Prediction(str(key), "yes", (label,), log_likelihoods={"yes": -float(key), "no": -2.0})
            for key, label in enumerate(labels)
        ]

    assert numpy.isnan(interval(SCORES["roc_auc"], rows(["yes", "yes"])).low)
    assert 0 <= interval(SCORES["roc_auc"], rows(["yes", "no", "yes"])).low <= 1


def test_thousands_of_predictions_take_seconds():
    rng = numpy.random.default_rng(0)
    rows = [
        Prediction(str(key), "yes", ("yes" if key % 2 else "no",), log_likelihoods={"yes": float(x), "no": 0.0})
        for key, x in enumerate(rng.normal(size=5000))
    ]
    began = time.process_time()
    interval(SCORES["roc_auc"], rows)
    assert time.process_time() - began < 10  # measured: 0.9 s
