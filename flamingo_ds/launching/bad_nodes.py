"""``python -m flamingo_ds.launching.bad_nodes FILE``: the nodes that a preflight found bad, for ``ExcNodeList``.

Prints ``n2,n7``, or nothing where the preflight named none or wrote no file.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import EXIT_DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Print them; always 0, as a preflight without a file names nobody."""
    parser = argparse.ArgumentParser(prog="python -m flamingo_ds.launching.bad_nodes", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="preflight-JOB.json")
    path = parser.parse_args(arguments).file
    if path.exists():
        print(",".join(json.loads(path.read_text(encoding="utf-8"))["bad"]))
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
