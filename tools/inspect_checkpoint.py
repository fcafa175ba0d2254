"""Say what a checkpoint or model on disk is, and what is missing or broken in it, without loading weights.

    python tools/inspect_checkpoint.py runs/demo/checkpoints/latest
    python tools/inspect_checkpoint.py runs/demo/hf --json report.json

Knows training checkpoints of this project, model folders of transformers (ours, IDEFICS, Otter) and OpenFlamingo's .pt.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, ConfigError


def main() -> int:
    """Command line entry point; exit code 1 where something is missing or broken, 2 where nothing is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, metavar="PATH", help="folder or file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings here")
    options = parser.parse_args()
    from rich.console import Console
    from rich.table import Table

    from flamingo_ds.checkpoint.conversion.inspect import inspect

    try:
        report = inspect(options.path)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    size = sum(path.stat().st_size for path in [options.path, *options.path.rglob("*")] if path.is_file())
    table = Table(show_header=False, title=report.kind)
    for name, value in {**report.facts, "size on disk": f"{size / 1e6:,.1f} MB"}.items():
        table.add_row(name, str(value))
    Console(width=120).print(table)
    for problem in report.problems:
        print(f"broken: {problem}")
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return EXIT_FAILED if report.problems else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
