"""Which tests share a process when several work side by side (``make test``)."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Folders whose tests share something that takes long to start: ranks, a cluster.
TOGETHER = ("distributed", "slurm")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together, and so do those of some folders."""
    for item in items:
        place = item.path.relative_to(HERE)
        group = place.parts[0] if place.parts[0] in TOGETHER else str(place)
        item.add_marker(pytest.mark.xdist_group(group))
