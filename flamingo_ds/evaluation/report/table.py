"""Scores in the terminal."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..results import Interval, Report
from ..scores import count_empty
from .series import Series, all_series

WIDTH_OF_FILES = 200


def print_table(reports: Mapping[str, Report], console: Console | None = None) -> None:
    """A table a task: one row a score and model, one column a number of shots; then what was skipped or left empty.

    Args:
        reports: by the name of their model.
        console: to print on; standard output by default.
    """
    console = console or Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
    series = all_series(reports)
    for task in dict.fromkeys(row.task for row in series):
        console.print(_of_task(task, [row for row in series if row.task == task], len(reports) > 1))
    if any(row.seeds > 1 for row in series):
        console.print("several seeds: the mean of their values, the outermost ends of their intervals")
    for line in notes(reports):
        console.print(line, markup=False, highlight=False)


def _of_task(task: str, rows: Sequence[Series], with_models: bool) -> Table:
    shots = sorted({count for row in rows for count in row.points})
    table = Table(title=f"{escape(task)}: score and its 95 % interval by shots", title_justify="left", show_lines=True)
    table.add_column("score", overflow="fold")
    if with_models:
        table.add_column("model", overflow="fold")
    for count in shots:
        table.add_column(str(count), justify="right", overflow="fold")
    for row in rows:
        names = (row.score, escape(row.label)) if with_models else (row.score,)
        table.add_row(*names, *(formatted(row.points.get(count)).replace(" ", "\n", 1) for count in shots))
    return table


def formatted(interval: Interval | None) -> str:
    """Value, low and high end; a dash where nothing was measured."""
    if interval is None:
        return "-"
    if math.isnan(interval.value):
        return "undefined"
    return f"{interval.value:.3f} ({interval.low:.3f}–{interval.high:.3f})"  # noqa: RUF001


def notes(reports: Mapping[str, Report]) -> Iterator[str]:
    """What a reader of the scores must know: samples that could not be used, and answers that are empty."""
    for label, report in reports.items():
        for result in report.tasks:
            if result.skipped:
                yield f"{label}, {result.task}: unusable samples: {_counts(result.skipped)}"
            for cell in result.cells:
                place = f"{label}, {result.task}, {cell.shots} shots, seed {cell.seed}"
                if cell.skipped:
                    yield f"{place}: not asked: {_counts(cell.skipped)}"
                if empty := count_empty(cell.predictions):
                    yield f"{place}: {empty} of {len(cell.predictions)} answers are empty"


def _counts(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
