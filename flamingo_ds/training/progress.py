"""What a person sees of a running training, on rank 0 only: a bar on a terminal, plain lines elsewhere.

The lines also go to a file, behind those of earlier starts.
"""

import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class ProgressDisplay:
    """Loss, learning rate, tokens a second and time left.

    Args:
        start_step, max_steps: steps done and to do.
        log_every: steps between lines where there is no terminal.
        enabled: False on all ranks but the main one.
        path: file of the lines.
    """

    def __init__(self, start_step: int, max_steps: int, log_every: int, enabled: bool, path: Path) -> None:
        self.start_step, self.max_steps, self.log_every, self.enabled = start_step, max_steps, log_every, enabled
        self.console = Console()
        self.lines = path.open("a", encoding="utf-8", buffering=1) if enabled else None
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.started = time.monotonic()

    def __enter__(self) -> "ProgressDisplay":
        if self.enabled and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.bar.add_task("", total=self.max_steps, completed=self.start_step)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
        if self.lines is not None:
            self.lines.close()

    def step(self, step: int, values: dict[str, float]) -> None:
        """Show a finished step."""
        if self.lines is None:
            return
        text = f"loss {values['loss']:.4f}  lr {values['lr']:.2e}  {values['tokens_per_s']:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, description=text)
        if step % self.log_every == 0 or step == self.max_steps:
            rate = (time.monotonic() - self.started) / (step - self.start_step)
            left = time.strftime("%H:%M:%S", time.gmtime(rate * (self.max_steps - step)))
            line = f"step {step}/{self.max_steps}  {text}  left {left}"
            self._write(self.lines, line)
            if self.bar is None:
                print(line, flush=True)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self.lines is not None:
            self._write(self.lines, text)
            (self.bar.console if self.bar is not None else self.console).print(
                text, highlight=False, markup=False, soft_wrap=True
            )

    @staticmethod
    def _write(lines: TextIO, text: str) -> None:
        lines.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")
