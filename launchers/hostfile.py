"""A hostfile for ``deepspeed --hostfile`` from this job's nodes: ``python launchers/hostfile.py > hosts``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from flamingo_ds.launching.hostfile import main

if __name__ == "__main__":
    sys.exit(main())
