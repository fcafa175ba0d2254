"""Signals that ask a run to stop: noted here, acted on between two steps."""

import signal
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any, Self

# The scheduler's early warning; it comes when it comes, also during imports, and must be neither lost nor deadly.
WARNING_SIGNALS = (signal.SIGUSR1,)
# Ctrl-C and the scheduler's end. Before the first step there is nothing to save, and the process may end at once, even
# while it waits for other ranks somewhere outside of Python.
END_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether this process was asked to stop. A launcher may send several signals; all mean the same.

    A context manager: inside, the early warning is noted, and from :meth:`listen` on the other signals too. Handlers
    are put back at its end.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[signal.Signals, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> Self:
        self._catch(WARNING_SIGNALS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def listen(self) -> None:
        """Note all of them from now on: training begins."""
        self._catch(END_SIGNALS)

    @property
    def requested(self) -> bool:
        """A signal came."""
        return self.signal is not None

    def _catch(self, numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            self._before.setdefault(number, signal.getsignal(number))
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number).name
