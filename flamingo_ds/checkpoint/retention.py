"""Which checkpoints stay, and clearing away the others and what killed runs left behind."""

import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .files import OLD_SUFFIX, PARTIAL_SUFFIX, REMOVING_SUFFIX, beside, set_aside
from .names import LATEST, complete_checkpoints

LOGGER = logging.getLogger("flamingo_ds")


@dataclass(frozen=True)
class Retention:
    """Keep the last so many, and besides every one whose step is a multiple.

    Attributes:
        keep_last: at least 1; None keeps all.
        keep_every: None: no others.
    """

    keep_last: int | None = None
    keep_every: int | None = None

    def outdated(self, steps: Iterable[int], current: int) -> list[int]:
        """The steps whose checkpoints may go.

        Later ones than the current are of a run that this one left, to go on from an earlier checkpoint: they neither
        count nor go until they are overwritten.
        """
        if self.keep_last is None:
            return []
        past = sorted(step for step in steps if step < current)
        past = past[: len(past) - (self.keep_last - 1)] if self.keep_last > 1 else past
        return [step for step in past if self.keep_every is None or step % self.keep_every]


def clear_away(folder: Path, retention: Retention, current: int) -> None:
    """Delete what the current checkpoint replaced, what is outdated and what killed runs left.

    The current one is whole by now and ``latest`` points to it. What cannot be deleted is said and tried again after
    the next save.
    """
    checkpoints = complete_checkpoints(folder)
    gone = [beside(checkpoints[current], OLD_SUFFIX)]
    gone += [checkpoints[step] for step in retention.outdated(checkpoints, current)]
    for path in gone:
        try:
            set_aside(path)
        except OSError as error:
            LOGGER.warning("%s could not be removed: %s", path, error)
    for name in _step_names(folder):
        if name.endswith(REMOVING_SUFFIX):
            shutil.rmtree(folder / name, ignore_errors=True)
            if (folder / name).exists():
                LOGGER.warning("%s could not be deleted", folder / name)


def tidy_names(folder: Path) -> None:
    """Give the leftovers of killed runs their right names, quickly; no save is under way.

    A checkpoint that was being replaced is put back; half-written ones become something to delete.
    """
    (folder / f"{LATEST}{PARTIAL_SUFFIX}").unlink(missing_ok=True)
    for name in _step_names(folder):
        if name.endswith(OLD_SUFFIX):
            whole = folder / name.removesuffix(OLD_SUFFIX)
            if whole.exists():
                set_aside(folder / name)
            else:
                (folder / name).rename(whole)
        elif name.endswith(PARTIAL_SUFFIX):
            set_aside(folder / name)


def _step_names(folder: Path) -> list[str]:
    """A snapshot of the names that are ours; anything else in the folder is a person's."""
    return sorted(name for name in os.listdir(folder) if name.startswith("step-"))
