"""Convert a published folder back to a training checkpoint, to go on or to fine-tune from.

    python tools/convert_from_hf.py runs/demo/hf runs/again/start
    python -m flamingo_ds.train --recipe demo run_dir=runs/again --resume runs/again/start

The folder must be one that tools/convert_to_hf.py wrote, whole or of what trains alone. Frozen weights are not copied:
they come from where the folder's recipe says, or where key=value says now, and are compared.
"""

import argparse
import sys
from pathlib import Path

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, ConfigError


def main() -> int:
    """Command line entry point; exit code 2 where the input is wrong, 1 where writing fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="checkpoint to write")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys, such as where a base lies")
    options = parser.parse_intermixed_args()
    from transformers.utils import logging

    from flamingo_ds.checkpoint.conversion.from_hf import checkpoint_from_hf

    logging.disable_progress_bar()
    try:
        out = checkpoint_from_hf(options.model, options.out, options.overrides)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"error: {options.out} could not be written: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(f"wrote {out}; go on with --resume {out}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
