"""Signals that ask a run to stop: noted here, acted on between two steps."""

import signal
from types import FrameType

# Ctrl-C, the scheduler's end, and the scheduler's early warning.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Whether this process was asked to stop. A launcher may send several signals; all mean the same."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def listen(self) -> None:
        """Catch the signals from now on."""
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number).name

    @property
    def requested(self) -> bool:
        """A signal came."""
        return self.signal is not None
