"""What tables and plots show of reports: one line of values over shots for each task, score and model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..results import Interval, Report, TaskResult


@dataclass(frozen=True)
class Series:
    """A score over shots.

    Attributes:
        task: its name.
        score: its name.
        label: of the model.
        points: an interval for each number of shots.
        seeds: how many draws of examples stand behind each point.
    """

    task: str
    score: str
    label: str
    points: Mapping[int, Interval]
    seeds: int


def all_series(reports: Mapping[str, Report]) -> list[Series]:
    """By task, then by score, then by model, each in the order in which it first comes."""
    found = [
        series for label, report in reports.items() for result in report.tasks for series in _of_result(result, label)
    ]
    tasks = list(dict.fromkeys(series.task for series in found))
    scores = list(dict.fromkeys(series.score for series in found))
    return sorted(found, key=lambda series: (tasks.index(series.task), scores.index(series.score)))


def labels(reports: Sequence[Report], paths: Sequence[Path]) -> dict[str, Report]:
    """Reports by the name of their model; by that of their file too where models share one."""
    names = [Path(report.model).name or report.model for report in reports]
    return {
        f"{name} ({path})" if names.count(name) > 1 else name: report
        for name, path, report in zip(names, paths, reports, strict=True)
    }


def _of_result(result: TaskResult, label: str) -> list[Series]:
    names = list(dict.fromkeys(name for cell in result.cells for name in cell.scores))
    shots = sorted({cell.shots for cell in result.cells})
    made = []
    for name in names:
        groups = {
            count: [cell.scores[name] for cell in result.cells if cell.shots == count and name in cell.scores]
            for count in shots
        }
        points = {count: over_seeds(intervals) for count, intervals in groups.items() if intervals}
        made.append(Series(result.task, name, label, points, max(map(len, groups.values()))))
    return made


def over_seeds(intervals: Sequence[Interval]) -> Interval:
    """Of several draws of examples: the mean of their values, between the outermost ends of their intervals."""
    if any(math.isnan(interval.value) for interval in intervals):
        return Interval(math.nan, math.nan, math.nan)
    value = sum(interval.value for interval in intervals) / len(intervals)
    return Interval(value, min(interval.low for interval in intervals), max(interval.high for interval in intervals))
