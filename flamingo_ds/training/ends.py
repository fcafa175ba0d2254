"""Why a training stops before its last step, and what is to be known of its end."""

import os
from dataclasses import dataclass

from torch.distributed import DistError

from ..launching.exit_record import ExitRecord
from ..launching.signals import StopRequest

# Seconds between the scheduler's warning and its end, told by whoever submitted the job.
WARNING_VARIABLE = "FLAMINGO_WARNING_S"


@dataclass(frozen=True)
class Ends:
    """What the outside world wants, and what it learns.

    Attributes:
        stop: where signals arrive.
        record: of this rank, how far it came.
    """

    stop: StopRequest
    record: ExitRecord

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


def lost_peer(error: Exception) -> str | None:
    """What another rank's end did to this one; None for an error of its own."""
    if "Timed out" in str(error) or "timeout" in str(error).lower():
        return "another rank did not arrive"
    if isinstance(error, DistError) or "Connection" in str(error):
        return "a connection broke, so another rank has ended"
    return None
