"""Convert OpenFlamingo's checkpoint.pt, or Otter's folder, to a training checkpoint; or a checkpoint to checkpoint.pt.

    python tools/convert_openflamingo.py import checkpoint.pt runs/of/start --recipe openflamingo-9b
    python -m flamingo_ds.train --recipe openflamingo-9b run_dir=runs/of --resume runs/of/start
    python tools/convert_openflamingo.py export runs/of/checkpoints/latest checkpoint.pt

Their files name neither the language model nor the vision encoder: a recipe in openflamingo style does, and what the
file holds of either must be what the recipe names. Exit code 1 where something does not fit or is damaged.
"""

import argparse
import sys
from pathlib import Path

from flamingo_ds.checkpoint.conversion.command import run_conversion
from flamingo_ds.config import EXIT_BAD_INPUT, ConfigError, load_recipe


def main() -> int:
    """Command line entry point."""
    options = _parser().parse_intermixed_args()
    if options.direction == "export":
        return run_conversion(lambda: _export(options.source, options.out), options.out)
    try:
        recipe = load_recipe(options.recipe, options.overrides)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT

    def work() -> None:
        from flamingo_ds.checkpoint.conversion.from_openflamingo import checkpoint_from_openflamingo

        for note in checkpoint_from_openflamingo(options.source, options.out, recipe):
            print(f"note: {note}")
        print(f"wrote {options.out}; go on with --resume {options.out}")

    return run_conversion(work, options.out)


def _export(checkpoint: Path, out: Path) -> None:
    from flamingo_ds.checkpoint.conversion.to_openflamingo import export_openflamingo

    export_openflamingo(checkpoint, out)
    print(f"wrote {out}: {out.stat().st_size / 1e6:,.1f} MB; load it with strict=False, as theirs are")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("direction", choices=["import", "export"])
    parser.add_argument("source", type=Path, metavar="SOURCE", help="theirs to import, a training checkpoint to export")
    parser.add_argument("out", type=Path, metavar="OUT", help="checkpoint folder, or the .pt to write")
    parser.add_argument("--recipe", default="openflamingo-9b", help="name or YAML file; for import")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys; for import")
    return parser


if __name__ == "__main__":
    sys.exit(main())
