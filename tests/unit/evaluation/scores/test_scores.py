import json
import re
from pathlib import Path

import numpy
import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.evaluation import tasks
from flamingo_ds.evaluation.results import Prediction
from flamingo_ds.evaluation.scores import SCORES, check_scores, count_empty, interval
from flamingo_ds.evaluation.scores.ptb_tokens import ptb_tokens
from flamingo_ds.evaluation.scores.vqa_answers import CONTRACTIONS, normalised, stripped
from flamingo_ds.evaluation.task import Answering, Sample, Task

HERE = Path(__file__).parent
# make_reference.py: pycocoevalcap 1.2 with Java's tokens.
CAPTIONS = json.loads((HERE / "captions_reference.json").read_text(encoding="utf-8"))
# The official vqaEval.py of 2021, run with Python 3.
VQA = json.loads((HERE / "vqa_reference.json").read_text(encoding="utf-8"))


def predictions(answers, references, likelihoods=None):
    return [
        Prediction(str(key), answer, tuple(people), log_likelihoods=likelihoods[key] if likelihoods else None)
        for key, (answer, people) in enumerate(zip(answers, references, strict=True))
    ]


def value(name, some):
    return SCORES[name].value(SCORES[name].statistics(some))


CAPTIONED = predictions(CAPTIONS["answers"], CAPTIONS["references"])


def test_tokens_are_those_of_stanford():
    for text, tokens in zip(CAPTIONS["answers"], CAPTIONS["answer_tokens"], strict=True):
        assert ptb_tokens(text) == tokens.split()  # as the scores split them
    for texts, wanted in zip(CAPTIONS["references"], CAPTIONS["reference_tokens"], strict=True):
        assert [ptb_tokens(text) for text in texts] == [tokens.split() for tokens in wanted]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("They can't; it's Mr. O'Brien's", "they ca n't it 's mr. o'brien 's"),
        ("the dogs' “toys” at 3:00pm", "the dogs toys at 3:00 pm"),
        ("well-known and/or foo.com (U.S.A.) R&B", "well-known and/or foo.com -lrb- u.s.a. -rrb- r&b"),
        ("gonna 'tis cannot wanna... who'd've", "gon na 't is can not wan na who 'd 've"),
        ("the letter A. He has an X.", "the letter a he has an x."),
        ("1,000 of 3.5m, 50% at $5.00 — '80s!!", "1,000 of 3.5 m 50 % at $ 5.00 '80s !!"),
    ],
)
def test_tokens_of_single_texts(text, tokens):
    assert ptb_tokens(text) == tokens.split()


def test_cider_is_pycocoevalcaps():
    each = SCORES["cider"].statistics(CAPTIONED)[:, 0]
    # Sums in another order.
    numpy.testing.assert_allclose(each, CAPTIONS["cider_of_each"], rtol=0, atol=1e-12)
    assert SCORES["cider"].value(each[:, None]) == pytest.approx(CAPTIONS["cider"], abs=1e-12)


def test_bleu_is_pycocoevalcaps_on_the_whole_and_on_any_part():
    statistics = SCORES["bleu4"].statistics(CAPTIONED)
    assert SCORES["bleu4"].value(statistics) == pytest.approx(CAPTIONS["bleu4"], abs=1e-12)
    assert SCORES["bleu4"].value(statistics[40:]) == pytest.approx(CAPTIONS["bleu4_of_last_8"], abs=1e-12)


def test_vqa_accuracy_is_the_official_one():
    answers = [case["answer"] for case in VQA["accuracy"]]
    each = SCORES["vqa_accuracy"].statistics(predictions(answers, [case["people"] for case in VQA["accuracy"]]))
    numpy.testing.assert_allclose(each[:, 0], [case["accuracy"] for case in VQA["accuracy"]], rtol=0, atol=1e-12)
    assert 0.3 < each.mean() < 0.7


def test_answers_are_normalised_as_officially():
    assert {text: normalised(stripped(text)) for text in VQA["normalised"]} == VQA["normalised"]
    assert len(CONTRACTIONS) == 114


def test_exact_match_and_accuracy():
    some = predictions(["The dog.", "cat", "", "a"], [["dog"], ["dog", "cats"], ["dog"], ["the"]])
    assert SCORES["exact_match"].statistics(some)[:, 0].tolist() == [1, 0, 0, 0]
    some = predictions(["dog", " dog ", "Dog", ""], [["cat", "dog"]] * 3 + [[""]])
    assert SCORES["accuracy"].statistics(some)[:, 0].tolist() == [1, 1, 0, 0]


def test_ivqa_accuracy_wants_two_who_said_it():
    people = ["a pan", "pan", "the pot", "spoon", ""]
    some = predictions(["Pan.", "pot", "fork", "", "the"], [people] * 5)
    assert SCORES["ivqa_accuracy"].statistics(some)[:, 0].tolist() == [1, 0.5, 0, 0, 0]


def test_every_score_that_a_task_names_is_there():
    sources = [path.read_text() for path in Path(tasks.__file__).parent.glob("*.py")]
    named = {name for text in sources for name in re.findall(r'"(\w+_accuracy|\w+_match|\w+_auc|cider|bleu4)"', text)}
    assert {"ivqa_accuracy", "exact_match", "cider"} <= named <= set(SCORES)


def by_pairs(scores, labels):
    pairs = [
        (p, n) for p, a in zip(scores, labels, strict=True) if a for n, b in zip(scores, labels, strict=True) if not b
    ]
    return sum((p > n) + (p == n) / 2 for p, n in pairs) / len(pairs)


def test_roc_auc_counts_pairs():
    rng = numpy.random.default_rng(0)
    margins, labels = rng.integers(-3, 4, 60).astype(float), rng.integers(0, 2, 60)
    some = predictions(
        ["no"] * 60,
        [["yes" if label else "no"] for label in labels],
        [{"yes": margin - 1, "no": -1.0} for margin in margins],
    )
    assert value("roc_auc", some) == pytest.approx(by_pairs(margins, labels), abs=1e-12)
    assert numpy.isnan(value("roc_auc", [one for one in some if one.references == ("yes",)]))


def test_what_cannot_be_scored_is_refused():
    likelihoods = [{"yes": -1.0, "no": -2.0}]
    for name, some, message in [
        ("vqa_accuracy", predictions(["x"], [["x"] * 3]), "at least 4"),
        ("ivqa_accuracy", predictions(["x"], [["x"]]), "at least 2"),
        ("cider", predictions(["x"], [[]]), "at least 1"),
        ("bleu4", predictions(["x"], [[]]), "at least 1"),
        ("exact_match", predictions(["x"], [[]]), "at least 1"),
        ("roc_auc", predictions(["yes"], [["yes"]]), "'yes' and 'no'"),
        ("roc_auc", predictions(["yes"], [["maybe"]], likelihoods), "maybe"),
    ]:
        with pytest.raises(ConfigError, match=message):
            SCORES[name].statistics(some)


def test_a_task_is_checked_before_anything_is_asked():
    def task(scores, answers, options=()):
        return Task("t", Answering.open_ended, (), [Sample("q", (), answers=answers)], scores, options=options)

    check_scores(task(("vqa_accuracy", "exact_match"), ("x",) * 10))
    check_scores(task(("roc_auc", "accuracy"), ("no",), ("no", "yes")))
    for scores, answers in [
        (("rouge",), ("x",)),
        (("vqa_accuracy",), ("x",)),
        (("cider",), ()),
        (("roc_auc",), ("x",)),
    ]:
        with pytest.raises(ConfigError):
            check_scores(task(scores, answers))


@pytest.mark.parametrize("name", SCORES)
def test_no_predictions_have_no_value(name):
    assert numpy.isnan(interval(SCORES[name], []).value)


def test_empty_answers_are_counted():
    assert count_empty(predictions(["x", "", " \n"], [["x"]] * 3)) == 2
