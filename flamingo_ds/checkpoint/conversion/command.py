"""What the conversion tools have in common: how they end."""

import sys
from collections.abc import Callable
from pathlib import Path

from ...config import EXIT_DONE, EXIT_FAILED, ConfigError


def run_conversion(work: Callable[[], None], out: Path) -> int:
    """Do it; every failure is one line.

    Args:
        work: the conversion.
        out: what it writes, for the message where writing fails.

    Returns:
        Exit code: 0, or 1 where something that is read does not fit or is damaged, or something cannot be written.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        work()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        print(f"error: {out} could not be written: {error}; nothing there was changed", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE
