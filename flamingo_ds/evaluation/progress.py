"""How far an evaluation is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0


class AnswerProgress:
    """Of one cell, on the rank that speaks.

    Args:
        name: of the cell.
        total: questions that this rank answers.
        speaks: whether this rank does.
    """

    def __init__(self, name: str, total: int, speaks: bool) -> None:
        self.name, self.total, self.speaks = name, total, speaks
        self.count, self.began, self.told = 0, time.monotonic(), time.monotonic()
        self.bar: Progress | None = None
        if speaks and total and sys.stdout.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            )
            self.task = self.bar.add_task(name, total=total)

    def __enter__(self) -> "AnswerProgress":
        if self.bar is not None:
            self.bar.start()
        return self

    def advance(self, count: int) -> None:
        """So many more questions are answered."""
        self.count += count
        now = time.monotonic()
        if self.bar is not None:
            self.bar.advance(self.task, count)
        elif self.speaks and now - self.told >= SECONDS_BETWEEN_LINES:
            self.told, left = now, (now - self.began) * (self.total - self.count) / self.count
            print(f"{self.name}: {self.count}/{self.total} of this rank, {left:.0f} s left", flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
