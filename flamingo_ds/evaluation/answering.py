"""Questions to answers: one batch at a time, the same batches on any number of ranks.

Ensembling (paper, appendix A.2: six permutations of the examples). Close-ended: log-likelihoods are averaged over the
orders. Open-ended, which the paper leaves alone: what was written under each order are the options, and their
log-likelihoods are averaged likewise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from ..data.bad_samples import BadSample
from .models.model import Answerer, Reader, media_paths
from .questions import Question
from .results import Prediction
from .task import Prompt


@dataclass(frozen=True)
class Skip:
    """A question that could not be asked.

    Attributes:
        key: of its query.
        kind: to count it under; of an example's picture it begins with ``example_``.
    """

    key: str
    kind: str


Outcome = Prediction | Skip


def answer(answerer: Answerer, reader: Reader, questions: Sequence[Question]) -> list[Outcome]:
    """One batch of one cell.

    Args:
        answerer: with its weights.
        reader: of the same model.
        questions: of one cell.

    Returns:
        In their order.
    """
    skips = {question.sample.key: _unreadable(answerer, question) for question in questions}
    asked = [question for question in questions if skips[question.sample.key] is None]
    answered = {}
    if asked:
        results = _choose(answerer, asked) if asked[0].options else _write(answerer, asked)
        for question, (text, scores) in zip(asked, results, strict=True):
            answered[question.sample.key] = _prediction(question, reader, text, scores)
    return [skips[question.sample.key] or answered[question.sample.key] for question in questions]


Result = tuple[str, dict[str, float] | None]


def _choose(answerer: Answerer, questions: Sequence[Question]) -> list[Result]:
    """The option of the greatest log-likelihood; of equal ones the first."""
    results: list[Result] = []
    for question in questions:
        means = mean_log_likelihoods(answerer, question.prompts, question.options)
        best = int(means.argmax())
        results.append((question.options[best], dict(zip(question.options, means.tolist(), strict=True))))
    return results


def _write(answerer: Answerer, questions: Sequence[Question]) -> list[Result]:
    prompts = [question.prompts for question in questions]
    most = questions[0].cell.task.max_new_tokens
    rounds = max(map(len, prompts))
    written: list[list[str]] = [[] for _ in questions]
    for number in range(rounds):  # a query with fewer examples has fewer orders
        places = [place for place, orders in enumerate(prompts) if number < len(orders)]
        for place, text in zip(places, answerer.write([prompts[place][number] for place in places], most), strict=True):
            written[place].append(text)
    results: list[Result] = []
    for orders, texts in zip(prompts, written, strict=True):
        candidates = list(dict.fromkeys(texts))
        best = 0
        if len(candidates) > 1:
            best = int(mean_log_likelihoods(answerer, orders, candidates).argmax())
        results.append((candidates[best], None))
    return results


def mean_log_likelihoods(answerer: Answerer, prompts: Sequence[Prompt], options: Sequence[str]) -> numpy.ndarray:
    """(options,) averaged over the orders of the examples."""
    return numpy.mean([answerer.log_likelihoods(prompt, options) for prompt in prompts], axis=0)


def _unreadable(answerer: Answerer, question: Question) -> Skip | None:
    for path in (*question.sample.media, *media_paths(question.prompts[0])):  # its own fault is told before another's
        try:
            answerer.see(path)
        except BadSample as bad:
            whose = "" if path in question.sample.media else "example_"
            return Skip(question.sample.key, whose + bad.kind)
    return None


def _prediction(question: Question, reader: Reader, text: str, scores: dict[str, float] | None) -> Prediction:
    sample, prompt = question.sample, question.prompts[0]
    return Prediction(
        key=sample.key,
        text=text,
        references=sample.answers,
        question=sample.question,
        media=tuple(map(str, sample.media)),
        examples=tuple(example.key for example in question.orders[0]),
        prompt=reader.text(prompt),
        log_likelihoods=scores,
        prompt_media=tuple(map(str, media_paths(prompt))),
    )
