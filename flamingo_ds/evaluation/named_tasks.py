"""Tasks as the command line names them: ``NAME=PATH``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import ConfigError
from .scores import check_scores
from .task import Task
from .tasks import load_task

KEY = "--task"


@dataclass(frozen=True)
class NamedTask:
    """One of them.

    Attributes:
        label: ``NAME=PATH``.
        path: of its folder.
        task: what is in it.
    """

    label: str
    path: Path
    task: Task


def split_label(label: str) -> tuple[str, Path]:
    """Name and path.

    Raises:
        ConfigError: not of that form.
    """
    name, sign, path = label.partition("=")
    if not name or not sign or not path:
        raise ConfigError(KEY, label, "NAME=PATH, such as coco=/data/coco")
    return name, Path(path).expanduser()


def load_tasks(labels: Sequence[str], support_limit: int | None = None) -> list[NamedTask]:
    """All of them, each with its scores able to judge it.

    Args:
        labels: ``NAME=PATH``.
        support_limit: of :func:`~flamingo_ds.evaluation.tasks.load_task`.

    Raises:
        ConfigError: one that cannot be asked, or is named twice.
    """
    if twice := next((label for place, label in enumerate(labels) if label in labels[:place]), None):
        raise ConfigError(KEY, twice, "each task once")
    tasks = []
    for label in labels:
        name, path = split_label(label)
        task = load_task(name, path, support_limit)
        check_scores(task)
        tasks.append(NamedTask(label, path, task))
    alike = Counter(named.task.name for named in tasks)
    return [_told_apart(named) if alike[named.task.name] > 1 else named for named in tasks]


def _told_apart(named: NamedTask) -> NamedTask:
    return replace(named, task=replace(named.task, name=f"{named.task.name} {named.path.name}"))
