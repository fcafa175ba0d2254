"""Other projects' code, from a folder of its own: ``make parity`` installs it there, and nothing else imports it."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv" / "peers"

if PEERS.is_dir():
    sys.path.append(str(PEERS))


def pytest_collection_modifyitems(items):
    if PEERS.is_dir():
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="the projects to compare with are not installed: make parity"))
