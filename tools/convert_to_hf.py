"""Convert a training checkpoint to a Hugging Face model folder, which needs nothing but transformers to load.

Frozen weights come from their own source, which must still be what the checkpoint was trained on.
"""

import argparse
import sys
from pathlib import Path

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, ConfigError

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def main() -> int:
    """Command line entry point; exit code 2 where the input is wrong, 1 where writing fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="such as runs/demo/checkpoints/latest")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; an earlier export is replaced")
    parser.add_argument("--dtype", choices=DTYPES, help="of all weights; without it the precision of the training")
    options = parser.parse_args()
    import torch
    from transformers.utils import logging

    from flamingo_ds.checkpoint.export import export_to_hf

    logging.disable_progress_bar()
    dtype = getattr(torch, DTYPES[options.dtype]) if options.dtype else None
    try:
        out = export_to_hf(options.checkpoint, options.out, dtype)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"error: {options.out} could not be written: {error}", file=sys.stderr)
        return EXIT_FAILED
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"wrote {out}: {size / 1e6:,.1f} MB")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
