"""Write webdataset shards of pairs, interleaved pages or videos from a table and a folder of files.

    python tools/make_shards.py pairs.csv --files photos/ --format image_text --out shards/
    python tools/make_shards.py pages.jsonl --files photos/ --format interleaved --out shards/
    python tools/make_shards.py clips.parquet --files clips/ --format video_text --out shards/

The table is a CSV, JSONL or parquet file. image_text: columns ``image`` (a path in the folder) and ``caption``.
video_text: ``video`` (a file, or a folder of frames) and ``caption``. interleaved: ``texts`` and ``images``, two lists
of equal length where at each place one is null and the other a text or a path; in a CSV as JSON. Other column names can
be given. OUT gets NAME-00000.tar, ... and index.json: samples, bytes and sha256 of each shard.

Exit codes: 0 done, 1 some rows were left out (they are named), 2 wrong input.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, ConfigError
from flamingo_ds.config.schema import SampleFormat
from tools.shards.rows import BadRow, Columns, sample_of
from tools.shards.tables import count_rows, read_rows
from tools.shards.writer import ShardWriter

MOST_NAMED = 10


def main(arguments: list[str] | None = None) -> int:
    """Command line entry point."""
    options = _parser().parse_args(arguments)
    try:
        return write(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


def write(options: argparse.Namespace) -> int:
    """Write all shards and the index.

    Raises:
        ConfigError: a table or folder that is not there, a column that is missing, an OUT that holds such shards.
    """
    if not options.files.is_dir():
        raise ConfigError("--files", str(options.files), "a folder")
    if options.samples_per_shard < 1:
        raise ConfigError("--samples-per-shard", options.samples_per_shard, "a number above 0")
    columns = Columns(options.caption, options.image, options.video, options.texts, options.images)
    kind = SampleFormat(options.format)
    total = count_rows(options.table)
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
    left_out = 0
    with ShardWriter(options.out, options.name, options.samples_per_shard) as writer, bar:
        task = bar.add_task(str(options.out), total=total)
        for number, row in enumerate(read_rows(options.table, columns.needed(kind))):
            try:
                writer.add(f"{number:09d}", sample_of(kind, row, columns, options.files))
            except BadRow as bad:
                left_out += 1
                if left_out <= MOST_NAMED:
                    console.print(f"row {number + 1} left out: {bad}", highlight=False, markup=False)
            bar.advance(task)
    if not writer.samples:
        raise ConfigError("TABLE", str(options.table), "at least one row that can be used")
    print(
        f"{options.out}: {writer.samples} samples in {len(writer.index)} shards, {writer.bytes:,} bytes; "
        f"{left_out} rows left out"
    )
    return EXIT_FAILED if left_out else EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, metavar="TABLE", help="a .csv, .jsonl or .parquet file")
    parser.add_argument("--files", type=Path, required=True, help="folder that paths in the table are relative to")
    parser.add_argument("--format", choices=[kind.value for kind in SampleFormat], required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--name", default="shard", help="what shards' names begin with")
    parser.add_argument("--samples-per-shard", type=int, default=1000)
    for column in ("image", "video", "caption", "texts", "images"):
        parser.add_argument(f"--{column}", default=column, metavar="COLUMN", help=f"name of the column {column}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
