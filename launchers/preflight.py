"""Is every node fit to train? ``srun python launchers/preflight.py --run-dir DIR``; see docs/slurm.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from flamingo_ds.launching.preflight.command import main

if __name__ == "__main__":
    sys.exit(main())
