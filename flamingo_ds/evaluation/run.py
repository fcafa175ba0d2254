"""The whole evaluation: tasks, prompts, answers, scores, in that order and on all ranks."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from math import nan
from typing import Any

import torch.distributed as dist

from ..launching.signals import StopRequest
from ..parallel import Launch
from .answering import Skip, answer
from .choosing import Selection
from .draws import Neighbours
from .journal import Journal
from .models.model import Answerer, ModelSource
from .named_tasks import NamedTask
from .progress import AnswerProgress
from .questions import CellPlan, Question, ask, check_lengths, describe, limit_queries, plan_cells
from .results import Cell, Interval, Report, TaskResult
from .scores import SCORES, interval
from .settings import Settings
from .similar import Similar
from .task import Task

VERSIONS = ("flamingo_ds", "torch", "transformers")


class Evaluation:
    """One model on some tasks.

    Args:
        settings: see there.
        tasks: at least one.
        source: of the model, without weights.
        launch: this rank's place.
    """

    def __init__(self, settings: Settings, tasks: Sequence[NamedTask], source: ModelSource, launch: Launch) -> None:
        self.settings, self.source, self.launch = settings, source, launch
        self.tasks = [
            replace(named, task=replace(named.task, queries=limit_queries(named.task.queries, settings.limit)))
            for named in tasks
        ]
        self.journal = Journal(settings.report, launch.rank)
        self.digests = {named.label: _digest(named.task) for named in tasks}

    def prepare(self) -> None:
        """Choose examples, show prompts and measure them, all without the model's weights.

        With RICES only the shape of the prompts is known yet: examples at random stand for those to come.

        Raises:
            ConfigError: more shots than the support set or the model's context holds.
        """
        for named in self.tasks:
            for cell in self._cells(named):
                questions = ask(cell, Selection.random, 1, balanced=self.settings.balanced)
                check_lengths(questions, self.source.reader)
                if self.launch.is_main and self.settings.selection is Selection.random:
                    self._show(questions)

    def answer(self, stop: StopRequest) -> None:
        """Every question that has no answer yet; this rank's share of the batches, as long as nobody asks to stop.

        Raises:
            ConfigError: a journal of other settings, weights that cannot be loaded, or RICES without pictures.
        """
        self.journal.begin(self._fingerprint(), self.digests, self.launch.is_main)
        self.journal.read()
        wait_for_all(self.launch)  # whoever reads later would find answers of this run, and deal the rest out otherwise
        if self.settings.selection is Selection.random and not any(self._missing()):
            return
        answerer = self.source.load(self.settings.dtype, self.settings.device)
        for place, named in enumerate(self.tasks):
            neighbours = None
            if self.settings.selection is Selection.rices and any(self.settings.shots):
                similar = Similar.of(named.task, answerer.encoder(), self.settings.features, self.launch)
                named = self.tasks[place] = replace(named, task=similar.task)
                neighbours = similar.neighbours
            for cell in self._cells(named):
                self._answer_cell(named.label, cell, answerer, neighbours, stop)

    def report(self) -> Report:
        """Scores of all answers, when all ranks have answered."""
        self.journal.read()
        results = []
        for named in self.tasks:
            cells = [self._score(named, cell) for cell in self._cells(named)]
            results.append(TaskResult(named.task.name, str(named.path), cells, named.task.skipped))
        return Report(self.settings.model, self._described(), results)

    def _cells(self, named: NamedTask) -> list[CellPlan]:
        return plan_cells(named.task, self.settings.shots, self.settings.seeds, self.settings.selection)

    def _missing(self) -> list[bool]:
        return [
            self.journal.missing(ask(cell, Selection.random, 1, balanced=self.settings.balanced), named.label)
            for named in self.tasks
            for cell in self._cells(named)
        ]

    def _answer_cell(
        self, label: str, cell: CellPlan, answerer: Answerer, neighbours: Neighbours | None, stop: StopRequest
    ) -> None:
        settings = self.settings
        questions = ask(cell, settings.selection, settings.ensemble, neighbours, settings.balanced)
        if neighbours is not None and self.launch.is_main:
            self._show(questions)
        size = settings.batch_size
        batches = [questions[start : start + size] for start in range(0, len(questions), size)]
        # Whole batches, and the same ones on any number of ranks: padding moves the last bits of what is beside it.
        waiting = [batch for batch in batches if self.journal.missing(batch, label)]
        mine = waiting[self.launch.rank :: self.launch.world_size]
        with AnswerProgress(str(cell), sum(map(len, mine)), self.launch.is_main) as progress:
            for batch in mine:
                if stop.requested:
                    return
                self.journal.add(batch, answer(answerer, self.source.reader, batch), label)
                progress.advance(len(batch))
        if self.launch.is_main:
            print(f"{cell}: {len(questions)} queries, {sum(map(len, waiting))} of them asked now", flush=True)

    def _score(self, named: NamedTask, cell: CellPlan) -> Cell:
        outcomes = [self.journal.outcome(cell, query.key, named.label) for query in cell.task.queries]
        predictions = [outcome for outcome in outcomes if not isinstance(outcome, Skip)]
        skipped = Counter(outcome.kind for outcome in outcomes if isinstance(outcome, Skip))
        nothing = Interval(nan, nan, nan)
        scores = {name: interval(SCORES[name], predictions) if predictions else nothing for name in cell.task.scores}
        return Cell(cell.shots, cell.seed, scores, predictions, dict(skipped))

    def _show(self, questions: Sequence[Question]) -> None:
        for question in questions[: self.settings.show]:
            print(describe(question, self.source.reader), flush=True)

    def _fingerprint(self) -> dict[str, Any]:
        """Everything that an answer depends on besides its task, its shots and its seed."""
        settings = self.settings
        return {
            "model": self.source.reader.identity,
            "select": str(settings.selection),
            "ensemble": settings.ensemble,
            "balanced": settings.balanced,
            "batch_size": settings.batch_size,
            "dtype": str(settings.dtype or "the weights' own"),
            "device": settings.device.type,
            **{name: version(name) for name in VERSIONS},
        }

    def _described(self) -> dict[str, object]:
        settings = self.settings
        return {
            **self._fingerprint(),
            "shots": list(settings.shots),
            "seeds": list(settings.seeds),
            "limit": settings.limit,
        }


def wait_for_all(launch: Launch) -> None:
    """Until every rank has come here."""
    if launch.world_size > 1:
        dist.barrier()


def _digest(task: Task) -> str:
    """Of what a task says; of its pictures their paths."""
    content = (task.answering, task.instruction, task.options, task.max_new_tokens, sorted(task.episodes.items()))
    digest = hashlib.sha256(repr(content).encode())
    for sample in (*task.support, *task.queries):
        digest.update(repr(sample).encode())
    return digest.hexdigest()[:16]
