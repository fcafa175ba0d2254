"""How ranks tell each other, through the folder that they all write into, that their files are there.

Saving beside training cannot use collectives: they would mix with the training's own.
"""

import json
import os
import time
from pathlib import Path
from threading import Event
from typing import Any

from .files import beside, flush

FOLDER = "done"
# Below the process group's own patience (30 minutes), so that whoever waits in a collective for the waiting rank hears
# the reason first.
PATIENCE_SECONDS = 25 * 60.0
POLL_SECONDS = (0.01, 1.0)


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written; the earlier ones are as they were."""


def leave_marker(folder: Path, rank: int, content: dict[str, Any]) -> None:
    """Say that this rank's files are flushed; ``content`` with a key ``error`` says that they never will be."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    marker = folder / FOLDER / f"{rank:04d}.json"
    temporary = beside(marker, ".partial")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    flush(temporary)
    temporary.replace(marker)


def wait_for_markers(folder: Path, ranks: int, give_up: Event, patience: float = PATIENCE_SECONDS) -> list[Any]:
    """What every rank left, in the order of ranks.

    Raises:
        CheckpointError: a rank failed, or some did not come within ``patience`` seconds or before ``give_up``.
    """
    deadline, pause = time.monotonic() + patience, POLL_SECONDS[0]
    contents: dict[int, Any] = {}
    while True:
        present = set(os.listdir(folder / FOLDER))
        for rank in range(ranks):
            name = f"{rank:04d}.json"
            if rank not in contents and name in present:
                contents[rank] = json.loads((folder / FOLDER / name).read_text(encoding="utf-8"))
                if "error" in contents[rank]:
                    raise CheckpointError(f"rank {rank} could not write its part: {contents[rank]['error']}")
        if len(contents) == ranks:
            return [contents[rank] for rank in range(ranks)]
        if time.monotonic() > deadline or give_up.is_set():
            missing = ", ".join(str(rank) for rank in range(ranks) if rank not in contents)
            raise CheckpointError(f"no word that these ranks wrote their part: {missing}")
        give_up.wait(pause)
        pause = min(2 * pause, POLL_SECONDS[1])
