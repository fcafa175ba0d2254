"""Names rank, step and kind of batch when a rank waits too long, such as in a collective that another never enters."""

import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Self

from torch.distributed import Store

from .rank_board import RankBoard
from .stall_report import Place, Sighting, describe_missing, describe_stall

LONGEST_BEAT_SECONDS = 10.0
# A rank that told nothing for three beats is silent; but machines are busy, and their clocks differ.
SILENT_BEATS, SILENT_SECONDS = 3, 5.0
# Part of a collective's time limit after which to say who is missing: NCCL ends the process without a word of Python.
LAST_CALL = 0.95


def say_on_stderr(text: str) -> None:
    """Print a line where the launcher collects it."""
    print(text, file=sys.stderr, flush=True)


class Watchdog:
    """Told by the training where it is; speaks when it stays there for ``patience_s`` seconds, then ever more rarely.

    Two daemon threads do the work; the hot path only remembers a place. It sees the Python side: on a GPU that is where
    the host waits for the device. Used as a context manager, inside the process group's life: ranks that leave the
    ``with`` are known to have ended.

    Args:
        rank, world_size: this process's place among the others.
        patience_s: seconds until it speaks, and again after 2, 4, 8, ... times as many; 0: it never does.
        log: gets every line of this rank, and with it the stack of the thread that made the watchdog.
        store: to learn where the others are, see :func:`connect_store`; None: it names only itself.
        say: gets the line on the lowest rank that waits: a thousand ranks that wait for one are one line there.
        clock: seconds.
        timeout_s: of collectives; shortly before, it speaks whatever its patience is.
        node: that this rank is on.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        patience_s: float,
        log: Callable[[str], None],
        store: Store | None,
        say: Callable[[str], None] = say_on_stderr,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = math.inf,
        node: str = "",
    ) -> None:
        self.rank, self.world_size, self.patience_s = rank, world_size, patience_s
        self.log, self.say, self.clock = log, say, clock
        self._watched = threading.get_ident()
        self._here = (Place(0, 0, "start"), clock())  # one object, so that a thread sees both or neither change
        self._judged = self._here
        self._last_call = LAST_CALL * timeout_s if world_size > 1 else math.inf
        self._first_word = self._speak_at = self._next_word(0.0)
        self._beat_s = min(self._first_word / 10, LONGEST_BEAT_SECONDS)
        self._silent_after = max(SILENT_BEATS * self._beat_s, SILENT_SECONDS)
        self._board = None
        if store is not None and self._speaks:
            self._board = RankBoard(store, rank, world_size, self._beat_s, self._own, node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    @property
    def _speaks(self) -> bool:
        """Whether it ever will."""
        return self._first_word < math.inf

    def at(self, step: int, what: str) -> None:
        """The training comes to a new place: ``what`` is for people, such as "forward of pages".

        All ranks call it with the same places in the same order; a rank in another kind of batch is found by that.
        """
        place = self._here[0]
        entry = place.entry + 1 if step == place.step else 0
        self._here = (Place(step, entry, what), self.clock())

    @property
    def place(self) -> str:
        """Which rank this is and where, for people."""
        return f"rank {self.rank} {self._here[0]}"

    def doing(self, what: str) -> None:
        """A new place in the same step, for those who do not know its number."""
        self.at(self._here[0].step, what)

    def __enter__(self) -> Self:
        if self._speaks:
            self._thread.start()
            if self._board is not None:
                self._board.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._speaks:
            self._thread.join(timeout=2.0)
            if self._board is not None:
                self._board.stop("done" if kind is None else kind.__name__)

    def look(self) -> None:
        """Speak if it is time to; the thread calls it once a beat."""
        here = self._here
        if here is not self._judged:
            if self._speak_at > self._first_word:
                waited = here[1] - self._judged[1]
                self.log(
                    f"watchdog: rank {self.rank} goes on {here[0]}; it had waited {waited:.0f} s {self._judged[0]}"
                )
            self._judged, self._speak_at = here, self._first_word
        waited = self.clock() - here[1]
        if waited >= self._speak_at:
            self._speak_at = self._next_word(waited)
            self._speak(here[0], waited)

    def missing(self) -> str:
        """Which ranks did not come to this place, for the last word on a collective that took too long."""
        return describe_missing(self.rank, self._here[0], self._ask(), self.world_size, self._silent_after)

    def _next_word(self, waited: float) -> float:
        """After how many seconds at a place to speak again."""
        regular = self.patience_s or math.inf
        while regular <= waited:
            regular *= 2
        return min(regular, self._last_call) if waited < self._last_call else regular

    def _ask(self) -> dict[int, Sighting] | str:
        if self._board is not None:
            return self._board.ask()
        return "there is no store" if self.world_size > 1 else {}

    def _speak(self, place: Place, waited: float) -> None:
        others = self._ask()
        line = f"watchdog: {describe_stall(self.rank, place, waited, others, self.world_size, self._silent_after)}"
        if waited >= self._last_call:
            missing = describe_missing(self.rank, place, others, self.world_size, self._silent_after)
            line += f"; the time of a collective is nearly over, did not arrive: {missing}"
        frame = sys._current_frames().get(self._watched)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "no such thread any more\n"
        self.log(f"{line}\nrank {self.rank} is here:\n{stack}")
        if isinstance(others, str) or not any(self._also_waits(other, seen) for other, seen in others.items()):
            self.say(line)

    def _also_waits(self, other: int, seen: Sighting) -> bool:
        """Whether a lower rank will say the same."""
        waits = seen.ended is None and seen.age <= self._silent_after and seen.waited + seen.age > self._first_word / 2
        return other < self.rank and waits

    def _own(self) -> tuple[Place, float]:
        place, since = self._here
        return place, self.clock() - since

    def _run(self) -> None:
        while not self._stopping.wait(self._beat_s):
            self.look()
