from collections.abc import Iterator

import pytest

from .pool import WorkerPool


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[WorkerPool]:
    """Two processes with a gloo group."""
    pool = WorkerPool(2)
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def one_rank() -> Iterator[WorkerPool]:
    """One process with a group of its own."""
    pool = WorkerPool(1)
    yield pool
    pool.stop()
