"""Ranks that all have the same to say."""

import os
import sys
import time

from .rank_source import likely_rank

# A launcher ends all ranks when one has failed, once that process is gone, which takes seconds with torch and more on a
# busy machine.
PATIENCE_SECONDS = 15.0


def say_in_turn(text: str) -> None:
    """Print the last words of a process: rank 0 at once, another rank if it is still there after a while.

    So an error that all ranks meet is said once, and one that a single rank has is said, too.
    """
    if likely_rank(os.environ) > 0:
        time.sleep(PATIENCE_SECONDS)
    print(text, file=sys.stderr, flush=True)
