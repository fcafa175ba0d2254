#!/bin/bash
# A deepspeed launcher a node, without ssh. In a job: launchers/deepspeed.sh ARGUMENTS OF flamingo_ds.train
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_job
exec srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 --wait=60 \
  "$ROOT/launchers/agent.sh" deepspeed "$@"
