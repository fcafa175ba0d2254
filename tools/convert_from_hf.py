"""Convert a published folder back to a training checkpoint, to go on or to fine-tune from.

    python tools/convert_from_hf.py runs/demo/hf runs/again/start
    python -m flamingo_ds.train --recipe demo run_dir=runs/again --resume runs/again/start

The folder is one that tools/convert_to_hf.py wrote, whole or of what trains alone: frozen weights are not copied, they
come from where its recipe says, or where key=value says now, and are compared. Or it is one of transformers' Idefics:
--recipe then gives data and training, and its bases are written to OUT-base. Exit code 1 where something does not fit.
"""

import argparse
import sys
from pathlib import Path

from flamingo_ds.checkpoint.conversion.command import run_conversion


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="checkpoint to write")
    parser.add_argument(
        "--recipe", default="fine-tune", help="data and training for an Idefics folder; name or YAML file"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys, such as where a base lies")
    options = parser.parse_intermixed_args()

    def work() -> None:
        from flamingo_ds.checkpoint.conversion.from_hf import checkpoint_from_hf
        from flamingo_ds.checkpoint.conversion.from_idefics import checkpoint_from_idefics, is_idefics

        if is_idefics(options.model):
            checkpoint_from_idefics(options.model, options.out, options.recipe, options.overrides)
        else:
            checkpoint_from_hf(options.model, options.out, options.overrides)
        print(f"wrote {options.out}; go on with --resume {options.out}")

    return run_conversion(work, options.out)


if __name__ == "__main__":
    sys.exit(main())
