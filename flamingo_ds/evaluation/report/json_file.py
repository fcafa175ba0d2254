"""A report as JSON, with every prediction.

::

    {"format": "flamingo_ds evaluation 1",
     "model": "...", "settings": {"select": "rices", ...},
     "tasks": [{"task": "coco", "path": "...", "skipped": {"missing_image": 2},
                "cells": [{"shots": 4, "seed": 0,
                           "scores": {"cider": {"value": 0.76, "low": 0.74, "high": 0.78}, ...},
                           "empty_answers": 1, "skipped": {"unreadable_image": 1},
                           "predictions": [{"key": "...", "text": "...", "references": ["..."], ...}]}]}]}

Fields of a prediction are those of :class:`~flamingo_ds.evaluation.results.Prediction`; what has its default is left
out. A score without a value (an AUC of one class, no predictions) has null for its numbers.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ...checkpoint.files import replace_text
from ...config import ConfigError
from ..results import Cell, Interval, Prediction, Report, TaskResult
from ..scores import count_empty

FORMAT = "flamingo_ds evaluation 1"


def write_json(report: Report, path: Path) -> None:
    """Write the file anew, whole or not at all.

    Raises:
        ConfigError: it cannot be written there.
    """
    content = {
        "format": FORMAT,
        "model": report.model,
        "settings": dict(report.settings),
        "tasks": [
            {
                "task": result.task,
                "path": result.path,
                "skipped": dict(result.skipped),
                "cells": [_cell(cell) for cell in result.cells],
            }
            for result in report.tasks
        ],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")
    except OSError as error:
        raise ConfigError("--json", str(path), f"a file that can be written: {error.strerror}") from error


def read_report(path: Path) -> Report:
    """The report of a file.

    Raises:
        ConfigError: not there, or not what :func:`write_json` writes.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("report", str(path), f"a report in JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError("report", str(path), f"a report of the format {FORMAT!r}")
    try:
        tasks = [
            TaskResult(task["task"], task["path"], [_read_cell(cell) for cell in task["cells"]], task["skipped"])
            for task in content["tasks"]
        ]
        return Report(content["model"], content["settings"], tasks)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError("report", str(path), f"a whole report: {type(error).__name__}: {error}") from error


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "shots": cell.shots,
        "seed": cell.seed,
        "scores": {
            name: {end: _or_null(getattr(interval, end)) for end in ("value", "low", "high")}
            for name, interval in cell.scores.items()
        },
        "empty_answers": count_empty(cell.predictions),
        "skipped": dict(cell.skipped),
        "predictions": [_prediction(prediction) for prediction in cell.predictions],
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    content = {field.name: (getattr(prediction, field.name), field.default) for field in fields(prediction)}
    return {
        name: {key: _or_null(number) for key, number in value.items()} if isinstance(value, Mapping) else value
        for name, (value, default) in content.items()
        if default is MISSING or value != default
    }


def _read_cell(cell: dict[str, Any]) -> Cell:
    scores = {
        name: Interval(*(_number(interval[end]) for end in ("value", "low", "high")))
        for name, interval in cell["scores"].items()
    }
    predictions = [_read_prediction(content) for content in cell["predictions"]]
    return Cell(cell["shots"], cell["seed"], scores, predictions, cell["skipped"])


def _read_prediction(content: dict[str, Any]) -> Prediction:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    if values.get("log_likelihoods"):
        values["log_likelihoods"] = {key: _number(number) for key, number in values["log_likelihoods"].items()}
    return Prediction(**values)


def _or_null(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _number(number: float | None) -> float:
    return math.nan if number is None else number
