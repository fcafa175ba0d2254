"""``python -m flamingo_ds.launching.master``: address and port of the master, for agents to be told.

It prints ``10.0.0.1 23456``: in a step, the same on all its nodes; in a job's own shell, for what starts ranks without
SLURM, the job's first node.
"""

import os
import sys

from ..errors import EXIT_BAD_INPUT, EXIT_DONE, ConfigError
from .slurm_step import read_shell, read_step


def main() -> int:
    """Print both.

    Returns:
        0, or 2 outside of a job or where the master cannot be reached.
    """
    try:
        step = read_step(os.environ) or read_shell(os.environ)
        if step is None:
            print("error: there is no job of SLURM", file=sys.stderr)
            return EXIT_BAD_INPUT
        print(step.master(), step.port)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
