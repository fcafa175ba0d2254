"""``python -m flamingo_ds.launching.master``: address and port of this step's master, for agents to be told.

Run in a step, it prints ``10.0.0.1 23456``, the same on all its nodes.
"""

import os
import sys

from ..errors import EXIT_BAD_INPUT, EXIT_DONE, ConfigError
from .slurm_step import read_step


def main() -> int:
    """Print both.

    Returns:
        0, or 2 outside of a step or where the master cannot be reached.
    """
    try:
        if (step := read_step(os.environ)) is None:
            print("error: there is no step: run it with srun", file=sys.stderr)
            return EXIT_BAD_INPUT
        print(step.master(), step.port)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
