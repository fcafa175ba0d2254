"""Submit a training to SLURM: ``python launchers/submit.py --recipe NAME --nodes 4 --gpus-per-node 8 [key=value ...]``.

docs/slurm.md tells every option and what happens on each event.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from flamingo_ds.submission.submit import main

if __name__ == "__main__":
    sys.exit(main())
