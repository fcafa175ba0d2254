"""Each rank's own word on how it ended, beside its log; a launcher's exit code tells of one rank at most."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .launch import Launch
from .run_files import ENDS_SUFFIX, Job, RunFiles

FIRST_LINES, LAST_LINES = 5, 35


class ExitRecord:
    """A line when a rank starts, another when it ends; one that was killed leaves the first alone.

    Nothing is written before :meth:`begin`, nor into a run folder that does not exist.

    Attributes:
        step: that was reached.
        follows: whether this rank failed because another was gone.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.follows = False
        self._path: Path | None = None
        self._about: dict[str, Any] = {}
        self._begun = False

    def begin(self, run_dir: str | Path, launch: Launch, environ: Mapping[str, str]) -> None:
        """Tell which rank this is; called again once the folder is there."""
        job, files = Job.of(environ), RunFiles(Path(run_dir))
        self._path = files.log(launch.rank, job).with_suffix(ENDS_SUFFIX)
        self._about = {
            "job": job.number,
            "restart": job.restarts,
            "node": job.node,
            "rank": launch.rank,
            "ranks": launch.world_size,
        }
        if not self._begun and files.path.is_dir():
            self._begun = True
            self._write({"event": "start", **self._about})

    def end(self, code: int, signal: str | None = None, error: str | None = None) -> None:
        """Tell how it ended.

        Args:
            code: exit code.
            signal: that asked it to stop.
            error: the line for the user, or a traceback.
        """
        if self._begun:
            self._begun = False  # once
            how = {"code": code, "signal": signal, "step": self.step, "follows": self.follows}
            self._write({"event": "end", **self._about, **how, "error": _shorten(error)})

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": round(time.time(), 3), **line}) + "\n")
        except OSError:  # a full disk may be why it ends
            self._path = None


def _shorten(error: str | None) -> list[str]:
    lines = error.splitlines() if error else []
    if len(lines) > FIRST_LINES + LAST_LINES:
        return [*lines[:FIRST_LINES], "...", *lines[-LAST_LINES:]]
    return lines
