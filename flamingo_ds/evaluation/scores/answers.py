"""Scores of short answers."""

from collections.abc import Sequence

from .per_query import PerQuery
from .vqa_answers import normalised, stripped


class VqaAccuracy(PerQuery):
    """Accuracy of VQAv2, OK-VQA, TextVQA and VizWiz (Antol et al. 2015; visualqa.org/evaluation).

    An answer counts as far as people gave it: min(1, matches / 3) against the others for each person left out, meaned.
    """

    name = "vqa_accuracy"
    # With fewer people the best answer would be worth less than 1.
    least_references = 4

    def of(self, text: str, references: Sequence[str]) -> float:
        """Of ten answers as a rule. Where all are the same word for word, nothing is normalised, as there."""
        answer, people = stripped(text), [stripped(reference) for reference in references]
        if len(set(people)) > 1:
            answer, people = normalised(answer), [normalised(reference) for reference in people]
        matches = people.count(answer)
        people_who_said_it = matches * min(1.0, (matches - 1) / 3)
        others = (len(people) - matches) * min(1.0, matches / 3)
        return (people_who_said_it + others) / len(people)


class IvqaAccuracy(PerQuery):
    """Accuracy of iVQA (Yang et al. 2021): min(1, people who said it / 2), of five as a rule."""

    name = "ivqa_accuracy"
    # One person's word alone is worth a half.
    least_references = 2

    def of(self, text: str, references: Sequence[str]) -> float:
        """1, a half or 0; both sides normalised as for VQA. An answer of nothing but articles or marks is wrong."""
        answer = normalised(stripped(text))
        matches = sum(normalised(stripped(reference)) == answer for reference in references)
        return min(1.0, matches / 2) if answer else 0.0


class ExactMatch(PerQuery):
    """Top-1 accuracy of open-ended answers (MSVD-QA and other video questions): one of the references, normalised."""

    name = "exact_match"

    def of(self, text: str, references: Sequence[str]) -> float:
        """1 or 0; both sides normalised as for VQA. An answer of nothing but articles or marks is wrong."""
        answer = normalised(stripped(text))
        return float(bool(answer) and answer in {normalised(stripped(reference)) for reference in references})


class Accuracy(PerQuery):
    """Top-1 accuracy of chosen answers: word for word one of the references."""

    name = "accuracy"

    def of(self, text: str, references: Sequence[str]) -> float:
        """1 or 0. An empty answer is wrong."""
        answer = text.strip()
        return float(bool(answer) and answer in {reference.strip() for reference in references})
