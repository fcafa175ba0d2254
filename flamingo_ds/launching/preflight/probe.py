"""The process that tries torch, as its parent sees it: it may fail, crash or hang, and is ended with the time."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .verdict import PHASES

COMMAND = (sys.executable, "-m", "flamingo_ds.collective_probe")
LAST_CHARACTERS = 200


class Probe:
    """Started at once; asked twice.

    Args:
        environ: for it.
        command: that starts it.
    """

    def __init__(self, environ: Mapping[str, str], command: Sequence[str] = COMMAND) -> None:
        self.phase = PHASES[0]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed in end()
        self._process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def versions(self, deadline: float) -> dict[str, Any]:
        """``gpus`` that it sees, or a ``problem``."""
        return self._listen("gpus", deadline)

    def reduce(self, place: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """``node_seconds``, ``all_seconds`` and ``megabytes``, or a ``problem``; in both cases the ``phase`` reached.

        Args:
            place: of this rank among the others, see :mod:`flamingo_ds.collective_probe`.
            deadline: of ``time.monotonic``.
        """
        try:
            print(json.dumps(place), file=self._process.stdin, flush=True)
        except OSError as error:
            return {"problem": f"the process with torch is gone: {error}", "phase": self.phase}
        return self._listen("all_seconds", deadline) | {"phase": self.phase}

    def end(self) -> None:
        """Whatever it does."""
        self._process.kill()
        self._process.wait()
        self._said.close()

    def _listen(self, wanted: str, deadline: float) -> dict[str, Any]:
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return {"problem": f"still {self.phase} when the time was over"}
            if line is None:
                return {"problem": self._last_words()}
            message = json.loads(line)
            self.phase = message.get("phase", self.phase)
            if wanted in message:
                return message

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # libraries print, too
                self._lines.put(line)
        self._lines.put(None)

    def _last_words(self) -> str:
        code = self._process.wait()
        self._said.seek(0, os.SEEK_SET)
        lines = [line.strip() for line in self._said if line.strip()]
        words = lines[-1][-LAST_CHARACTERS:] if lines else "it said nothing"
        return f"{words} (exit code {code}, {self.phase})"
