"""Reports side by side: a table, and a plot with a line for each model.

python -m flamingo_ds.evaluation.report A.json B.json [--plot scores.png]
"""

import argparse
import sys
from pathlib import Path

from ...errors import EXIT_BAD_INPUT, EXIT_DONE, ConfigError
from .json_file import read_report
from .plot import draw_scores
from .series import labels
from .table import print_table


def main(arguments: list[str] | None = None) -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(
        prog="flamingo_ds.evaluation.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="JSON", help="files of --json")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="score over shots, with intervals")
    options = parser.parse_args(arguments)
    try:
        reports = labels([read_report(path) for path in options.reports], options.reports)
        print_table(reports)
        if options.plot is not None:
            draw_scores(reports, options.plot)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"error: {options.plot}: {error.strerror}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
