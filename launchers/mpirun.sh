#!/bin/bash
# mpirun of Open MPI, on the nodes of a job or on this machine: launchers/mpirun.sh ARGUMENTS OF flamingo_ds.train
# Ranks ask MPI for their place through mpi4py, which must find the same MPI. USR1 to mpirun is passed on to ranks.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ -z ${SLURM_JOB_ID:-} ]] || need_job
# mpirun gives ranks a terminal even where its own output is a file, which a progress bar would fill.
export TTY_COMPATIBLE=0
[[ ! -t 1 ]] || TTY_COMPATIBLE=1
exec mpirun -np $((RANKS * ${SLURM_JOB_NUM_NODES:-1})) --map-by "ppr:$RANKS:node:oversubscribe" --bind-to none \
  -x PATH -x PYTHONPATH -x OMP_NUM_THREADS -x TTY_COMPATIBLE "$PYTHON" -m flamingo_ds.train "$@"
