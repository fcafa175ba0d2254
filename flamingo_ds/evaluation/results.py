"""What an evaluation found out, as it is written to JSON and read back for tables, plots and pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prediction:
    """One query's answer.

    Attributes:
        key: the query's.
        text: the answer, written or chosen.
        references: what people said.
        question: what was asked.
        media: paths of the query's pictures.
        examples: keys of the examples in the order of the prompt (the first one where several were ensembled).
        prompt: the text that the model read.
        log_likelihoods: of every option; None for open-ended answers.
        prompt_media: paths of all pictures of the prompt in reading order, the query's last.
    """

    key: str
    text: str
    references: tuple[str, ...]
    question: str = ""
    media: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    prompt: str = ""
    log_likelihoods: Mapping[str, float] | None = None
    prompt_media: tuple[str, ...] = ()


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap interval (95 %, over queries)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cell:
    """One task at one number of shots.

    Attributes:
        shots: examples in each prompt.
        seed: that chose them.
        scores: by name.
        predictions: of all queries, in the order of the task.
        skipped: queries that could not be asked, by kind.
    """

    shots: int
    seed: int
    scores: Mapping[str, Interval]
    predictions: Sequence[Prediction]
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskResult:
    """One task at all its numbers of shots."""

    task: str
    path: str
    cells: Sequence[Cell]
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A whole evaluation.

    Attributes:
        model: as given on the command line.
        settings: what else was given: selection, ensemble, limit, versions, command.
        tasks: one result each.
    """

    model: str
    settings: Mapping[str, object]
    tasks: Sequence[TaskResult]
