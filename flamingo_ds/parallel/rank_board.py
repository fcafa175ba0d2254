"""Where ranks tell one another their places: a key a rank in the store at which they met."""

import json
import queue
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore

from ..launching.launch import Launch
from .stall_report import Place, Sighting

PREFIX = "flamingo_ds/watchdog"
# A machine that vanished answers nothing; whoever asks goes on without an answer then.
ANSWER_SECONDS = 10.0


def connect_store(launch: Launch) -> Store | None:
    """A connection of our own to the store of the process group, be it served by rank 0 or by torchrun's agent.

    Not the group's own connection: that one is locked while it waits for another rank, which is when it is needed here.

    Returns:
        None for a single process, or where no store answers.
    """
    if launch.world_size == 1:
        return None
    try:
        store = TCPStore(
            launch.master_address,
            launch.master_port,
            is_master=False,
            timeout=timedelta(seconds=ANSWER_SECONDS),
            wait_for_workers=False,
        )
    except RuntimeError:  # torch's DistError is one
        return None
    return PrefixStore(PREFIX, store)


class RankBoard:
    """Posts this rank's place every ``beat_s`` seconds, and reads all others' when asked.

    A thread of its own does it, as a store whose machine vanished may never answer. An error ends the posting, not the
    run. Traffic: about 100 bytes a rank and beat to the store, and about 60 bytes a rank for each question. 1,000 ranks
    with a beat of 10 s post 100 keys a second; one question takes 2.3 ms there (loopback), the stall of all ranks 1,000
    of them. It costs rank 0, or torchrun's agent, one more open connection a rank.

    Args:
        store: see :func:`connect_store`.
        rank, world_size: this process's place among the others.
        beat_s: seconds between posts.
        own: place of this rank and the seconds since it came there.
        node: that this rank is on.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world_size: int,
        beat_s: float,
        own: Callable[[], tuple[Place, float]],
        node: str = "",
    ) -> None:
        self.store, self.rank, self.world_size, self.beat_s, self.own = store, rank, world_size, beat_s, own
        self.node = node
        self.error: str | None = None
        # What to answer to; or how the rank ended, which is the last post.
        self._requests: queue.Queue[queue.Queue[dict[int, Sighting]] | str] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="watchdog-board", daemon=True)

    def start(self) -> None:
        """Begin to post."""
        self._thread.start()

    def stop(self, how: str) -> None:
        """Post how this rank ended, and nothing more; waits a moment for the store."""
        self._requests.put(how)
        self._thread.join(timeout=2.0)

    def ask(self) -> dict[int, Sighting] | str:
        """The other ranks that ever posted, or why they cannot be read; waits at most ``ANSWER_SECONDS``."""
        answer: queue.Queue[dict[int, Sighting]] = queue.Queue()
        self._requests.put(answer)
        deadline = time.monotonic() + ANSWER_SECONDS
        while self.error is None and time.monotonic() < deadline:
            try:
                return answer.get(timeout=0.1)
            except queue.Empty:
                pass
        return self.error or f"the store did not answer in {ANSWER_SECONDS:.0f} s"

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # whatever a store raises: the run does not depend on it
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self.error = f"their store, which rank 0 or torchrun's agent serves, is gone ({reason})"

    def _serve(self) -> None:
        self.post()
        while True:
            try:
                request = self._requests.get(timeout=self.beat_s)
            except queue.Empty:
                self.post()
                continue
            if isinstance(request, str):
                self.post(request)
                return
            request.put(self._read())

    def post(self, ended: str | None = None) -> None:
        """Tell where this rank is, or how it ended."""
        place, waited = self.own()
        self.store.set(str(self.rank), json.dumps([*place, round(waited, 1), round(time.time(), 1), ended, self.node]))

    def _read(self) -> dict[int, Sighting]:
        others = [str(rank) for rank in range(self.world_size) if rank != self.rank]
        # A key that is not there would be waited for; there is one a rank from its start on, so one check is the rule.
        if not self.store.check(others):
            others = [key for key in others if self.store.check([key])]
        seen = {}
        for key, value in zip(others, self.store.multi_get(others) if others else [], strict=True):
            *place, waited, posted, ended, node = json.loads(value)
            seen[int(key)] = Sighting(Place(*place), waited, max(0.0, time.time() - posted), ended, node)
        return seen
