"""Why a training stops before its last step, and what is to be known of its end."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch.distributed import DistError

from ..launching.attempts import read_last
from ..launching.exit_record import ExitRecord
from ..launching.run_files import RunFiles
from ..launching.signals import StopRequest
from ..parallel import Launch, Watchdog
from ..parallel.stall_report import name_ranks
from .run_folder import LOGGER

# Seconds between the scheduler's warning and its end, told by whoever submitted the job.
WARNING_VARIABLE = "FLAMINGO_WARNING_S"


@dataclass(frozen=True)
class Ends:
    """What the outside world wants, and what it learns.

    Attributes:
        stop: where signals arrive.
        record: of this rank, how far it came.
        logs: where those of all ranks are.
    """

    stop: StopRequest
    record: ExitRecord
    logs: Path

    @contextmanager
    def explained(self, watchdog: Watchdog) -> Iterator[None]:
        """Add to an error where this rank was, and whether another one is the cause."""
        try:
            yield
        except Exception as error:
            where = f"this was {watchdog.place}"
            if (lost := lost_peer(error, watchdog.missing)) is not None:
                self.record.follows = True
                where += f"; {lost}, and the logs of all ranks in {self.logs}"
            error.add_note(where)
            LOGGER.exception("training failed")
            raise

    def too_late(self, save_seconds: float) -> str | None:
        """What to say where a checkpoint takes longer than the scheduler's warning comes ahead of its end."""
        try:
            warning = float(os.environ.get(WARNING_VARIABLE) or "inf")
        except ValueError:
            return None
        if save_seconds <= warning:
            return None
        return (
            f"warning: saving took {save_seconds:.0f} s, but the warning comes {warning:.0f} s before the end: a "
            f"stopped run would lose its last steps. Ask for an earlier one (--signal=B:USR1@{2 * save_seconds:.0f})"
        )


@contextmanager
def naming_absent(files: RunFiles, launch: Launch) -> Iterator[None]:
    """Add to an error while ranks meet which of them have not even started, by what they wrote down."""
    try:
        yield
    except Exception as error:
        waiting = {end.rank for end in read_last(files) if end.ended is None}
        if absent := set(range(launch.world_size)) - waiting:
            error.add_note(f"did not start, or has ended, by {files.logs}: {name_ranks(absent)}")
        raise


def lost_peer(error: Exception, missing: Callable[[], str]) -> str | None:
    """What another rank's end did to this one; None for an error of its own.

    Args:
        error: that ended this rank.
        missing: tells which ranks did not arrive; it may take seconds.
    """
    if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
        return f"another rank did not arrive in parallel.timeout_s: {missing()}"
    if isinstance(error, DistError) or "Connection" in str(error):
        return "a connection broke, so another rank has ended: see what it said"
    return None
