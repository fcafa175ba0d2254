"""A task: samples with media, the words around them, and how answers are scored. Nothing is decoded here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

# As in data/documents.py and data/videos.py, which take seconds to import.
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
VIDEO_SUFFIXES = ("mp4", "webm", "mkv", "mov", "avi")


class Answering(StrEnum):
    """How a model answers."""

    open_ended = "open_ended"
    """It writes: beam search until ``<EOC>``."""
    close_ended = "close_ended"
    """It chooses among a list: the answer of the greatest log-likelihood."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One example or query.

    Attributes:
        key: unique in its split, and the same in every run.
        media: paths of images, video files or folders of frames, in reading order.
        question: what is asked; empty for captions and classes.
        answers: what people said, the first of them stands in a prompt where the sample is an example.
        options: what it may be answered with, where that differs from sample to sample; else the task's apply.
        media_keys: of the pictures themselves: samples that share one are never example and query of one prompt.
    """

    key: str
    media: tuple[Path, ...]
    question: str = ""
    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    media_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """Support set and queries of one task, from one folder.

    Attributes:
        name: as on the command line.
        answering: open- or close-ended.
        support: where examples come from; may be empty.
        queries: what is asked.
        scores: names of ``scores/``, the first is the task's own.
        instruction: format string of what stands between media and answer, with ``{question}`` where there is one:
            ``Output:``, ``Question: {question} Answer:`` (paper, appendix B).
        options: of a close-ended task, in a fixed order; empty where each sample has its own.
        episodes: for a query's key the keys of its examples, where the task itself chooses them.
        skipped: unusable samples by kind, reported with the scores.
        max_new_tokens: an open-ended answer is cut there.
    """

    name: str
    answering: Answering
    support: Sequence[Sample]
    queries: Sequence[Sample]
    scores: tuple[str, ...]
    instruction: str = "Output:"
    options: tuple[str, ...] = ()
    episodes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    max_new_tokens: int = 20


@dataclass(frozen=True)
class Turn:
    """One example of a prompt, or the query behind them.

    Attributes:
        media: that are shown; none in the text-only examples of a zero-shot prompt.
        instruction: between media and answer.
        answer: what follows; None where the model shall answer.
    """

    media: tuple[Path, ...]
    instruction: str
    answer: str | None


# Examples first, the query last.
Prompt = tuple[Turn, ...]


def is_video(path: Path) -> bool:
    """A video file or a folder of frames; told by the name alone."""
    return path.suffix[1:].lower() not in IMAGE_SUFFIXES
