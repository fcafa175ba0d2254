#!/bin/bash
# The deepspeed command over pdsh and ssh, from the job's first node, for clusters where nodes reach one another by ssh.
# In a job's batch script: launchers/deepspeed_pdsh.sh ARGUMENTS OF flamingo_ds.train
# SLURM does not know these ranks: it sends them no signal, and does not end them if this node goes down.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
scratch=$(mktemp -d)
need_job "$scratch/hosts"
trap '' USR1 # the deepspeed command would end of it, and leave ranks behind

place=$("$PYTHON" -m flamingo_ds.launching.master)
read -r address port <<<"$place"
# What ranks behind ssh would not have: names of logs go by the job.
export DS_ENV_FILE=$scratch/environment
for name in PATH PYTHONPATH OMP_NUM_THREADS SLURM_JOB_ID SLURM_RESTART_COUNT FLAMINGO_WARNING_S; do
  [[ -z ${!name:-} ]] || echo "$name=${!name}"
done >"$DS_ENV_FILE"
# --force_multi: with one other node alone it would start the ranks here.
exec deepspeed --hostfile "$scratch/hosts" --launcher pdsh --force_multi --master_addr "$address" --master_port "$port" \
  --module flamingo_ds.train "$@"
