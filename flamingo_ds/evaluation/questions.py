"""What is asked: every query of a task with its examples, in each order that is to be ensembled."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy

from ..config import ConfigError
from ..data.bad_samples import BadSample
from .choosing import Selection, choose, orders
from .draws import Neighbours
from .models.model import Reader, media_paths
from .prompts import IMAGE_TOKEN, build_prompt
from .task import Answering, Prompt, Sample, Task

# Of a cell's prompts so many are counted in tokens before anything is computed: the longest in letters.
COUNTED = 32


@dataclass(frozen=True)
class CellPlan:
    """One task at one number of shots, by one choice of examples.

    Attributes:
        task: which.
        shots: examples a prompt.
        seed: of the choice.
    """

    task: Task
    shots: int
    seed: int

    def __str__(self) -> str:
        return f"{self.task.name}, {self.shots} shots, seed {self.seed}"


@dataclass(frozen=True)
class Question:
    """One query of a cell.

    Attributes:
        cell: it belongs to.
        sample: the query.
        orders: of its examples, the first as they were chosen.
    """

    cell: CellPlan
    sample: Sample
    orders: Sequence[Sequence[Sample]]

    @property
    def prompts(self) -> list[Prompt]:
        """One an order."""
        text_only = self.cell.shots == 0
        return [build_prompt(self.cell.task, self.sample, order, text_only) for order in self.orders]

    @property
    def options(self) -> tuple[str, ...]:
        """What it may be answered with; none where the model writes."""
        if self.cell.task.answering is Answering.open_ended:
            return ()
        return self.sample.options or self.cell.task.options


def plan_cells(task: Task, shots: Sequence[int], seeds: Sequence[int], selection: Selection) -> list[CellPlan]:
    """A cell for each number of shots and each seed; one seed alone where nothing is drawn."""
    cells = []
    for number in shots:
        drawn = selection is Selection.random or number == 0
        drawn = drawn and not (number == 0 and task.answering is Answering.close_ended)
        cells += [CellPlan(task, number, seed) for seed in (seeds if drawn else seeds[:1])]
    return cells


def ask(
    cell: CellPlan,
    selection: Selection,
    ensemble: int,
    neighbours: Neighbours | None = None,
    balanced: bool | None = None,
) -> list[Question]:
    """Every query with its examples.

    Raises:
        ConfigError: more shots than there are examples.
    """
    task = cell.task
    way = selection if cell.shots else Selection.random
    chosen = choose(task, cell.shots, cell.seed, way, neighbours, balanced)
    questions = []
    for query in task.queries:
        examples = [task.support[place] for place in chosen[query.key]]
        questions.append(Question(cell, query, orders(examples, ensemble, cell.seed)))
    return questions


def limit_queries(queries: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most so many, in their order: drawn at random, always the same; more of them hold fewer."""
    if limit is None or limit >= len(queries):
        return list(queries)
    drawn = numpy.random.default_rng(0).permutation(len(queries))[:limit]
    return [queries[place] for place in sorted(drawn.tolist())]


def check_lengths(questions: Iterable[Question], reader: Reader) -> None:
    """Before anything is computed: the longest prompts with their answers fit the model.

    Raises:
        ConfigError: one that does not.
    """
    context = reader.context_length
    if context is None:
        return
    letters = [(len(reader.text(question.prompts[0])), place, question) for place, question in enumerate(questions)]
    for _, _, question in sorted(letters, reverse=True)[:COUNTED]:
        answer = reader.longest(question.options) if question.options else question.cell.task.max_new_tokens
        try:
            length = reader.count_tokens(question.prompts[0]) + answer
        except BadSample:  # some models must see a picture to count its tokens; it is counted when it is asked about
            continue
        if length > context:
            raise ConfigError(
                "--shots",
                question.cell.shots,
                f"prompts of at most {context} tokens with their answer, all that the model reads; "
                f"{question.cell.task.name}'s query {question.sample.key!r} has {length}",
            )


def describe(question: Question, reader: Reader) -> str:
    """A prompt as it is read, with the picture of each place."""
    prompt = question.prompts[0]
    paths = media_paths(prompt)
    text, number = reader.text(prompt), iter(range(1, len(paths) + 1))
    if text.count(IMAGE_TOKEN) == len(paths):
        text = re.sub(re.escape(IMAGE_TOKEN), lambda _: f"<image {next(number)}>", text)
    lines = [f"--- {question.cell}, query {question.sample.key!r}", text]
    lines += [f"  image {place}: {path}" for place, path in enumerate(paths, 1)]
    if question.options:
        shown = ", ".join(map(repr, question.options[:5])) + (", ..." if len(question.options) > 5 else "")
        lines.append(f"  {len(question.options)} options: {shown}")
    return "\n".join(lines)
