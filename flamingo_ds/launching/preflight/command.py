"""The command line of ``launchers/preflight.py``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ...errors import EXIT_BAD_INPUT, EXIT_FAILED, ConfigError
from ..rank_source import read_launch
from .run import Options, Preflight


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at this rank's node and, with the others, at all of them; see ``--help``.

    Returns:
        0: all nodes are fit; 87: bad nodes, named in the file; 1: another failure; 2: a wrong option or environment.
    """
    try:
        options = _options(arguments)
        return Preflight(options, read_launch(os.environ), os.environ).run()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:  # rank 0 cannot listen
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED


def _options(arguments: Sequence[str] | None) -> Options:
    defaults = Options(Path())
    parser = argparse.ArgumentParser(
        prog="launchers/preflight.py",
        description="Is every node fit to train? Run it as training is run: srun python launchers/preflight.py "
        "--run-dir DIR. Bad nodes are named in DIR/logs/JOB/preflight-JOB.json and make the exit code 87.",
    )
    parser.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="that training will write to")
    parser.add_argument("--gpus-per-node", type=int, metavar="N", help="that torch must see on each node")
    parser.add_argument(
        "--time-limit", type=float, default=defaults.time_limit, metavar="S", help="seconds; default %(default)s"
    )
    parser.add_argument(
        "--min-free-gb", type=float, default=defaults.min_free_gb, metavar="GB", help="in DIR; default %(default)s"
    )
    parser.add_argument("--without-collectives", action="store_true", help="do not try torch and all-reduces")
    given = parser.parse_args(arguments)
    if given.time_limit <= 0:
        raise ConfigError("--time-limit", given.time_limit, "a number above 0")
    return Options(
        given.run_dir, given.gpus_per_node, given.time_limit, given.min_free_gb, not given.without_collectives
    )
