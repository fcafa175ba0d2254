"""How a start of a job really ended: ``python -m flamingo_ds.launching.exit_code RUN_DIR CODE`` prints an exit code.

CODE is the launcher's, which cannot be believed: srun gives the highest of its tasks' codes, so 143 of a rank that was
ended beside the one that failed; torchrun gives 1 for all; deepspeed gives 0 when it is killed, and srun where it could
not start anything.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import EXIT_DONE, EXIT_FAILED, EXIT_HALTED, EXIT_STOPPED
from .attempts import RankEnd, read_last
from .run_files import Job, RunFiles


def main(arguments: Sequence[str] | None = None) -> int:
    """Print it; always 0."""
    parser = argparse.ArgumentParser(prog="python -m flamingo_ds.launching.exit_code", description=__doc__)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("code", type=int, metavar="CODE", help="of the launcher")
    options = parser.parse_args(arguments)
    files, job = RunFiles(options.run_dir), Job.of(os.environ)
    ends = [end for end in read_last(files) if (end.job, end.restart) == (job.number, job.restarts)]
    print(exit_code(ends, options.code, files.finished.exists()))
    return EXIT_DONE


def exit_code(ends: Sequence[RankEnd], launcher: int, finished: bool) -> int:
    """That of the run.

    Args:
        ends: of the ranks of this start.
        launcher: the launcher's code.
        finished: whether all steps are done.
    """
    if finished:
        return EXIT_DONE
    failed = sorted((end for end in ends if end.failed), key=lambda end: (end.follows, end.ended or 0.0))
    codes = {end.code for end in ends}
    if failed and failed[0].code is not None:
        return failed[0].code
    for code in (EXIT_HALTED, EXIT_STOPPED):  # ranks say so once the checkpoint is whole on all of them
        if code in codes:
            return code
    return launcher if launcher not in (EXIT_DONE, EXIT_STOPPED, EXIT_HALTED) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
