"""Finished answers on disk, so that an interrupted evaluation goes on where it stopped.

FILE.journal/                 beside --json FILE
  settings.json               which model, precision, batches, ...: another setting is another evaluation
  rank-0000.jsonl             a line an answer, written by that rank; ranks may differ in number from run to run
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..checkpoint.files import beside, replace_text
from ..config import ConfigError
from .answering import Outcome, Skip
from .questions import CellPlan, Question
from .results import Prediction

KEY = "--json"
SETTINGS = "settings.json"
Place = tuple[str, int, int, str]


class Journal:
    """The answers of all ranks, as far as they were there at the start, and this rank's own.

    Args:
        report: the file beside which it lies.
        rank: this process's.
    """

    def __init__(self, report: Path, rank: int) -> None:
        self.folder = beside(report, ".journal")
        self.own = self.folder / f"rank-{rank:04d}.jsonl"
        self.done: dict[Place, Outcome] = {}

    def begin(self, settings: Mapping[str, Any], tasks: Mapping[str, str], writes: bool) -> None:
        """Go on with what is there, if it is of the same settings.

        Args:
            settings: on which answers depend.
            tasks: label of each task and a hash of its data; others may have been asked before.
            writes: whether this rank notes the settings.

        Raises:
            ConfigError: other settings or data, the first that differs; or a folder that cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            place = str(self.folder.parent)
            raise ConfigError(KEY, place, f"a place that can be written to: {error.strerror}") from error
        path = self.folder / SETTINGS
        known = _read_settings(path)
        for name, value in settings.items():
            if name in known["settings"] and known["settings"][name] != value:
                self._refuse(name, known["settings"][name], value)
        for label, digest in tasks.items():
            if known["tasks"].get(label, digest) != digest:
                self._refuse(f"data of {label}", known["tasks"][label], digest)
        if writes:
            content = {"settings": dict(settings), "tasks": known["tasks"] | tasks}
            replace_text(path, json.dumps(content, indent=2) + "\n")

    def read(self) -> None:
        """Everything that any rank has written so far."""
        for path in sorted(self.folder.glob("rank-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    place, outcome = _parse(line)
                except (ValueError, KeyError, TypeError):
                    continue  # the line that was being written when its rank was killed
                self.done.setdefault(place, outcome)

    def missing(self, questions: Sequence[Question], label: str) -> bool:
        """Whether any of them has no answer yet."""
        return any(_place(question.cell, question.sample.key, label) not in self.done for question in questions)

    def add(self, questions: Sequence[Question], outcomes: Sequence[Outcome], label: str) -> None:
        """A batch of answers."""
        lines = []
        for question, outcome in zip(questions, outcomes, strict=True):
            cell = question.cell
            kind = "skipped" if isinstance(outcome, Skip) else "prediction"
            where = {"task": label, "shots": cell.shots, "seed": cell.seed, "key": outcome.key}
            lines.append(json.dumps(where | {kind: asdict(outcome)}) + "\n")
        with self.own.open("a+b") as file:
            if file.tell() and not _ends_in_newline(self.own):
                file.write(b"\n")  # behind a line that a kill cut off
            file.write("".join(lines).encode())

    def outcome(self, cell: CellPlan, key: str, label: str) -> Outcome:
        """Of a question that was asked."""
        return self.done[_place(cell, key, label)]

    def _refuse(self, name: str, old: Any, new: Any) -> None:
        raise ConfigError(
            KEY, str(self.folder), f"answers given with {name} {new!r}, not {old!r}; remove it to begin anew"
        )


def _place(cell: CellPlan, key: str, label: str) -> Place:
    return label, cell.shots, cell.seed, key


def _parse(line: str) -> tuple[Place, Outcome]:
    content = json.loads(line)
    place = content["task"], content["shots"], content["seed"], content["key"]
    if "skipped" in content:
        return place, Skip(**content["skipped"])
    fields = content["prediction"]
    for name in ("references", "media", "examples", "prompt_media"):
        fields[name] = tuple(fields[name])
    return place, Prediction(**fields)


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"settings": {}, "tasks": {}}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {"settings": dict(content["settings"]), "tasks": dict(content["tasks"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(KEY, str(path), f"a journal's settings: {error}; remove its folder") from error


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
