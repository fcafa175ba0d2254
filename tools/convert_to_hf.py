"""Convert a training checkpoint to a Hugging Face model folder, which needs nothing but transformers to load.

    python tools/convert_to_hf.py runs/demo/checkpoints/latest runs/demo/hf --verify

Weights are streamed: the model is never built, and memory holds one chunk at a time. Frozen weights come from their own
source, which must still be what the checkpoint was trained on. A conversion that was killed goes on where it stopped.
Exit code 1 where the checkpoint or its base is damaged or does not fit, or OUT cannot be written.
"""

import argparse
import re
import sys
from pathlib import Path

from flamingo_ds.checkpoint.conversion.command import run_conversion

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def main() -> int:
    """Command line entry point."""
    options = _parser().parse_args()
    return run_conversion(lambda: _convert(options), options.out)


def _convert(options: argparse.Namespace) -> None:
    import torch

    from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions, export_checkpoint
    from flamingo_ds.checkpoint.conversion.to_idefics import export_idefics
    from flamingo_ds.checkpoint.conversion.to_openflamingo import export_openflamingo_folder
    from flamingo_ds.checkpoint.conversion.verify import verify_export
    from flamingo_ds.checkpoint.store import Checkpoint

    dtype = getattr(torch, DTYPES[options.dtype]) if options.dtype else None
    chosen = ExportOptions(dtype, options.max_shard_size, options.trainable_only)
    writers = {"flamingo": export_checkpoint, "idefics": export_idefics, "openflamingo": export_openflamingo_folder}
    out = writers[options.format](options.checkpoint, options.out, chosen)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"wrote {out}: {size / 1e6:,.1f} MB")
    if options.verify:
        verified = verify_export(out, Checkpoint(options.checkpoint))
        logits = verified.logit_difference
        told = "no logits to compare" if logits is None else f"largest logit difference {logits:.3g}"
        print(f"verified: {verified.tensors} tensors as written; {told}")


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?[KMGT]B", text):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number with KB, MB, GB or TB behind it")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="such as runs/demo/checkpoints/latest")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; an earlier export is replaced")
    parser.add_argument("--dtype", choices=DTYPES, help="of all weights; without it the precision of the training")
    parser.add_argument("--max-shard-size", type=_size, default="5GB", metavar="SIZE", help="of a file; default 5GB")
    parser.add_argument("--trainable-only", action="store_true", help="leave out what is frozen")
    parser.add_argument(
        "--format",
        choices=["flamingo", "idefics", "openflamingo"],
        default="flamingo",
        help="flamingo comes with its code; the others are for models of that style: transformers' own Idefics class, "
        "or OpenFlamingo's checkpoint.pt of what trains",
    )
    parser.add_argument("--verify", action="store_true", help="read everything again; compare hashes and logits")
    return parser


if __name__ == "__main__":
    sys.exit(main())
