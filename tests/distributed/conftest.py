from collections.abc import Callable, Iterator
from typing import Any

import pytest

from . import tiny_run
from .pool import WorkerPool
from .tiny_run import Layout, Outcome

STEPS = range(4)


class Pools:
    """Processes with a gloo group, for one, two or four ranks; started when first asked for.

    What a layout gave is kept: training is deterministic, and most tests compare the same few runs.
    """

    def __init__(self) -> None:
        self.pools: dict[int, WorkerPool] = {}
        self.trained: dict[tuple[int, Layout, range], Outcome] = {}

    def run(self, ranks: int, function: Callable[..., Any], *arguments: Any, timeout: float = 500.0) -> list[Any]:
        """Call ``function(*arguments)`` on so many ranks; see :meth:`WorkerPool.run`."""
        if ranks not in self.pools:
            self.pools[ranks] = WorkerPool(ranks)
        return self.pools[ranks].run(function, *arguments, timeout=timeout)

    def train(self, ranks: int, layout: Layout, steps: range = STEPS) -> Outcome:
        """The tiny training in a layout, its ranks' parts put together."""
        key = (ranks, layout, steps)
        if key not in self.trained:
            self.trained[key] = tiny_run.whole_outcome(self.run(ranks, tiny_run.train_parallel, layout, steps))
        return self.trained[key]

    def stop(self) -> None:
        """End all processes."""
        for pool in self.pools.values():
            pool.stop()


@pytest.fixture(scope="session")
def pools() -> Iterator[Pools]:
    """For the whole session: imports are paid once."""
    made = Pools()
    yield made
    made.stop()
