"""Signals that ask a run to stop: noted here, acted on between two steps."""

import signal
from collections.abc import Iterable
from types import FrameType

# The scheduler's early warning; it comes when it comes, also during imports, and must be neither lost nor deadly.
WARNING_SIGNALS = (signal.SIGUSR1,)
# Ctrl-C and the scheduler's end. Before the first step there is nothing to save, and the process may end at once, even
# while it waits for other ranks somewhere outside of Python.
END_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether this process was asked to stop. A launcher may send several signals; all mean the same.

    Handlers stay until the process is gone: a second SIGTERM, while a rank that saved is on its way out, must not turn
    its exit code into that of a killed one.
    """

    def __init__(self) -> None:
        self.signal: str | None = None

    def hear_warning(self) -> None:
        """Note the early warning from now on."""
        self._catch(WARNING_SIGNALS)

    def listen(self) -> None:
        """Note all of them from now on: training begins."""
        self._catch(END_SIGNALS)

    @property
    def requested(self) -> bool:
        """A signal came."""
        return self.signal is not None

    def _catch(self, numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number).name


def ignore_signals() -> None:
    """For a process that ends.

    Python's own end, which takes a while with torch, puts the deadly default back in the place of a handler, and not in
    the place of this.
    """
    for number in (*WARNING_SIGNALS, *END_SIGNALS):
        signal.signal(number, signal.SIG_IGN)
