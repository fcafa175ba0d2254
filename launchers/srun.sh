#!/bin/bash
# A task a rank. In a job: launchers/srun.sh ARGUMENTS OF flamingo_ds.train
# With SLURM_MPI_TYPE=pmix before it, MPI finds its ranks, too; the ranks themselves come from the step in any case.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_job
exec srun --ntasks=$((RANKS * SLURM_JOB_NUM_NODES)) --ntasks-per-node="$RANKS" --kill-on-bad-exit=1 --wait=60 \
  bash -c "trap '' USR1; exec \"\$@\"" shield "$PYTHON" -m flamingo_ds.train "$@"
