from pathlib import Path

import pytest

from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.evaluation.answering import Skip, answer
from flamingo_ds.evaluation.questions import CellPlan, Question
from flamingo_ds.evaluation.task import Answering, Sample, Task

SUPPORT = [Sample(name, (Path(f"{name}.png"),), answers=(name,)) for name in ("x", "y")]
QUERIES = [Sample(f"q{number}", (Path(f"q{number}.png"),), answers=("cat",)) for number in range(3)]


class Told:
    """Says what the first example's picture makes it say; remembers what it was asked."""

    def __init__(self, words=None, likelihoods=None, unreadable=()):
        self.words, self.likelihoods, self.unreadable = words, likelihoods, unreadable
        self.batches = []

    def see(self, path):
        if path.stem in self.unreadable:
            raise BadSample("truncated_image", str(path))

    def write(self, prompts, max_new_tokens):
        self.batches.append(len(prompts))
        return [self.words[prompt[0].media[0].stem] for prompt in prompts]

    def log_likelihoods(self, prompt, options):
        told = self.likelihoods[prompt[0].media[0].stem]
        return [told[option] for option in options]

    def text(self, prompt):
        return " ".join(turn.answer or "?" for turn in prompt)


def questions(answering, orders, options=()):
    task = Task("t", answering, SUPPORT, QUERIES, ("accuracy",), options=options)
    return [Question(CellPlan(task, 2, 0), query, orders) for query in QUERIES]


BOTH = [SUPPORT, SUPPORT[::-1]]


def test_the_option_of_the_greatest_mean_over_the_orders():
    """By the first order alone it would be cat, by the sum of probabilities too."""
    likelihoods = {"x": {"cat": -1.0, "dog": -2.0}, "y": {"cat": -9.0, "dog": -3.0}}
    model = Told(likelihoods=likelihoods)
    for outcome in answer(model, model, questions(Answering.close_ended, BOTH, ("cat", "dog"))):
        assert outcome.text == "dog"
        assert outcome.log_likelihoods == {"cat": -5.0, "dog": -2.5}
        assert outcome.examples == ("x", "y")
        assert outcome.prompt == "x y ?"
        assert outcome.prompt_media == ("x.png", "y.png", f"{outcome.key}.png")
    alone = answer(model, model, questions(Answering.close_ended, BOTH[:1], ("cat", "dog")))
    assert {outcome.text for outcome in alone} == {"cat"}


def test_of_equal_options_the_first():
    model = Told(likelihoods={"x": {"cat": -1.0, "dog": -1.0}})
    found = answer(model, model, questions(Answering.close_ended, BOTH[:1], ("dog", "cat")))
    assert [outcome.text for outcome in found] == ["dog"] * 3


def test_options_of_a_sample_stand_before_those_of_the_task():
    model = Told(likelihoods={"x": {"cat": -1.0, "dog": -2.0, "owl": -9.0}})
    asked = questions(Answering.close_ended, BOTH[:1], ("cat", "owl"))
    own = Sample("own", (Path("own.png"),), options=("dog", "owl"))
    (found,) = answer(model, model, [Question(asked[0].cell, own, asked[0].orders)])
    assert found.log_likelihoods == {"dog": -2.0, "owl": -9.0}


def test_texts_written_under_each_order_are_options_of_all():
    words = {"x": "one", "y": "two"}
    likelihoods = {"x": {"one": -1.0, "two": -4.0}, "y": {"one": -9.0, "two": -2.0}}
    model = Told(words, likelihoods)
    found = answer(model, model, questions(Answering.open_ended, BOTH))
    assert [outcome.text for outcome in found] == ["two"] * 3
    assert model.batches == [3, 3]
    assert found[0].log_likelihoods is None
    model = Told({"x": "one", "y": "one"})  # nothing to choose between, and nothing computed for it
    assert answer(model, model, questions(Answering.open_ended, BOTH))[0].text == "one"


def test_what_cannot_be_read_is_skipped_by_kind():
    model = Told({"x": "one"}, unreadable=("q1",))
    found = answer(model, model, questions(Answering.open_ended, BOTH[:1]))
    assert found[1] == Skip("q1", "truncated_image")
    assert [found[0].key, found[2].key] == ["q0", "q2"]
    assert model.batches == [2]
    model = Told({"x": "one"}, unreadable=("y",))
    found = answer(model, model, questions(Answering.open_ended, BOTH[:1]))
    assert found == [Skip(f"q{number}", "example_truncated_image") for number in range(3)]
    assert model.batches == []


def test_an_error_of_ours_is_no_skip():
    class Broken(Told):
        def see(self, path):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        answer(Broken(), Broken(), questions(Answering.open_ended, BOTH[:1]))
