"""A SLURM cluster for the tests of this folder."""

import os
from collections.abc import Iterator

import pytest

from .cluster import Cluster, why_not

NODES = 16


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Sixteen nodes of eight GPUs each, which are none. ``REQUIRE_SLURM=1`` makes a failure of what would be a skip."""
    if reason := why_not():
        if os.environ.get("REQUIRE_SLURM") == "1":
            pytest.fail(f"REQUIRE_SLURM=1, but no SLURM for tests: {reason}")
        pytest.skip(f"no SLURM for tests: {reason}")
    with Cluster(tmp_path_factory.mktemp("slurm"), NODES) as cluster:
        yield cluster
