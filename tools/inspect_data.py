"""What is in shards, and what the model will see of it: counts, lengths, sizes, bad samples, a contact sheet.

    python tools/inspect_data.py 'runs/demo/shards/pages-train-*.tar' --recipe demo --dataset pages --sheet sheet.png
    python tools/inspect_data.py shards/ --format image_text --tokenizer FOLDER_OR_NAME --sheet sheet.png

With --recipe the samples go through that recipe's tokenizer, image transform and rules (of --dataset, or of its first
dataset of that format). Without, through CLIP's transform at 224 pixels, a tokenizer of --tokenizer, and the defaults.
The sheet shows pictures behind the transform, and below them every token in the colour of the picture that it attends
to; grey tokens attend to none, and what is not predicted is underlined.

Exit codes: 0 done, 2 wrong input or not one usable sample.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE, ConfigError
from flamingo_ds.config.schema import SampleFormat
from tools.shards.inspection import Inspection, inspect
from tools.shards.setup import decoder_of
from tools.shards.sheet import draw


def main(arguments: list[str] | None = None) -> int:
    """Command line entry point."""
    options = _parser().parse_args(arguments)
    transformers_logging.set_verbosity_error()
    try:
        decoder, packing = decoder_of(options.recipe, options.dataset, options.format, options.tokenizer)
        found = inspect(options.shards, decoder, packing, options.samples, options.show)
        require_usable(options.shards, found)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    show(found, Console())
    if options.sheet:
        draw(found.shown, decoder).save(options.sheet)
        print(f"wrote {options.sheet}")
    if options.json:
        options.json.write_text(json.dumps(found.figures(), indent=2) + "\n", encoding="utf-8")
    return EXIT_DONE


def require_usable(shards: str, found: Inspection) -> None:
    """Complain of shards that nothing can be learnt from.

    Raises:
        ConfigError: how many samples of which kinds there are.
    """
    if not found.sequences:
        kinds = ", ".join(f"{kind} {count}" for kind, count in found.bad.most_common())
        raise ConfigError("SHARDS", shards, f"at least one usable sample; {kinds or 'there is none'}")


def show(found: Inspection, console: Console) -> None:
    """Print the figures."""
    figures = found.figures()
    console.print(
        f"{figures['shards']} shards, {figures['samples']} samples looked at, {figures['sequences']} sequences; "
        f"{figures['real_token_share']:.1%} of a padded batch's tokens are real",
        highlight=False,
    )
    table = Table("", "least", "median", "mean", "most")
    for name in ("tokens", "images", "frames", "width", "height", "bytes"):
        spread = figures[name]
        if spread:
            table.add_row(name, *(f"{spread[key]:,.4g}" for key in ("least", "median", "mean", "most")))
    console.print(table)
    if found.bad or found.left_out:
        table = Table("cannot be used", "samples", "images left out of a page", "such as")
        for kind in sorted(found.bad | found.left_out):
            table.add_row(kind, str(found.bad[kind]), str(found.left_out[kind]), found.examples.get(kind, ""))
        console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "shards", metavar="SHARDS", help="as in a recipe: path, braces, glob, folder, URL, pipe:COMMAND"
    )
    parser.add_argument("--recipe", help="whose tokenizer, transform and rules to use")
    parser.add_argument("--dataset", help="of the recipe")
    parser.add_argument("--format", type=SampleFormat, choices=list(SampleFormat), help="of the samples")
    parser.add_argument("--tokenizer", metavar="FOLDER|NAME", help="without a recipe")
    parser.add_argument("--samples", type=int, default=1000, help="to look at; 0: all")
    parser.add_argument("--show", type=int, default=8, help="sequences on the sheet")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write the contact sheet here")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
