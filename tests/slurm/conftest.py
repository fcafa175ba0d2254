"""A SLURM cluster for the tests of this folder."""

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from .cluster import Cluster, why_not
from .job import Job
from .stub_run import StubRun

NODES = 16
STEPS_OVER_THE_LIMIT = 1000


def go_without(reason: str) -> NoReturn:
    """Skip, or fail where a SLURM was promised."""
    if os.environ.get("REQUIRE_SLURM") == "1":
        pytest.fail(f"REQUIRE_SLURM=1, but no SLURM for tests: {reason}")
    pytest.skip(f"no SLURM for tests: {reason}")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Sixteen nodes of eight GPUs each, which are none. ``REQUIRE_SLURM=1`` makes a failure of what would be a skip."""
    if reason := why_not():
        go_without(reason)
    with Cluster(tmp_path_factory.mktemp("slurm"), NODES) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def over_the_limit(slurm: Cluster) -> dict[str, Job]:
    """Two runs with a limit of one minute. SLURM warns 15 to 45 s after the start, and ends them after up to 90 s."""
    stub = {"STUB_STEPS": STEPS_OVER_THE_LIMIT, "STUB_SECONDS": 0.1}
    minute = ("launch.time=1", "launch.nodelist=n[1-2]")
    warned = StubRun(slurm, "warned", **stub).submit("launch.warning_s=45", *minute)
    not_warned = StubRun(slurm, "not-warned", **stub).submit(*minute, "launch.sbatch=[--hold]")
    slurm.run("scancel", not_warned.number)
    (script,) = not_warned.path.glob("submissions/*/train.sbatch")
    lines = script.read_text().splitlines(keepends=True)
    script.write_text("".join(line for line in lines if not line.startswith(("#SBATCH --signal", "#SBATCH --hold"))))
    number = slurm.run("sbatch", "--parsable", str(script)).stdout.strip()
    return {"warned": warned, "not warned": Job(slurm, number, not_warned.path)}
