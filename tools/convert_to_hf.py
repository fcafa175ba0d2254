"""Convert a training checkpoint to a Hugging Face model folder, which needs nothing but transformers to load.

    python tools/convert_to_hf.py runs/demo/checkpoints/latest runs/demo/hf --verify

Weights are streamed: the model is never built, and memory holds one chunk at a time. Frozen weights come from their own
source, which must still be what the checkpoint was trained on. A conversion that was killed goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, ConfigError

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def main() -> int:
    """Command line entry point; exit code 2 where the input is wrong, 1 where writing fails."""
    options = _parser().parse_args()
    import torch
    from transformers.utils import logging

    from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions, export_checkpoint
    from flamingo_ds.checkpoint.conversion.verify import verify_export
    from flamingo_ds.checkpoint.store import Checkpoint

    logging.disable_progress_bar()
    dtype = getattr(torch, DTYPES[options.dtype]) if options.dtype else None
    try:
        chosen = ExportOptions(dtype, options.max_shard_size, options.trainable_only)
        out = export_checkpoint(options.checkpoint, options.out, chosen)
        verified = verify_export(out, Checkpoint(options.checkpoint)) if options.verify else None
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"error: {options.out} could not be written: {error}", file=sys.stderr)
        return EXIT_FAILED
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"wrote {out}: {size / 1e6:,.1f} MB")
    if verified is not None:
        logits = verified.logit_difference
        told = "no reference logits in the checkpoint" if logits is None else f"largest logit difference {logits:.3g}"
        print(f"verified: {verified.tensors} tensors as written; {told}")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="such as runs/demo/checkpoints/latest")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; an earlier export is replaced")
    parser.add_argument("--dtype", choices=DTYPES, help="of all weights; without it the precision of the training")
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a file; default 5GB")
    parser.add_argument("--trainable-only", action="store_true", help="leave out what is frozen")
    parser.add_argument("--verify", action="store_true", help="read everything again; compare hashes and logits")
    return parser


if __name__ == "__main__":
    sys.exit(main())
