#!/bin/bash
# One agent a node, which starts this node's ranks; itself a task of srun:
#   srun --ntasks-per-node=1 launchers/agent.sh torchrun|deepspeed ARGUMENTS OF flamingo_ds.train
#
# A signal to the step reaches agent and ranks alike. USR1 would end the agent, and leave ranks that nobody waits for; so
# it is ignored here. What is ignored stays so in children, until the ranks ask for it themselves, with their first lines.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
trap '' USR1

agent=${1:?torchrun or deepspeed}
shift
place=$("$PYTHON" -m flamingo_ds.launching.master) # the same on all nodes; a failure ends this script
read -r address port <<<"$place"

case $agent in
torchrun)
  exec torchrun --nnodes="$SLURM_STEP_NUM_NODES" --node-rank="$SLURM_NODEID" --nproc-per-node="$RANKS" \
    --master-addr="$address" --master-port="$port" -m flamingo_ds.train "$@"
  ;;
deepspeed)
  # --no_ssh starts this node's ranks alone; without --master_addr it would use ssh nevertheless.
  hosts=$(mktemp)
  "$PYTHON" -m flamingo_ds.launching.hostlist "$SLURM_STEP_NODELIST" | sed "s/\$/ slots=$RANKS/" >"$hosts"
  exec deepspeed --hostfile "$hosts" --no_ssh --node_rank "$SLURM_NODEID" --master_addr "$address" --master_port "$port" \
    --module flamingo_ds.train "$@"
  ;;
*)
  echo "error: agent = '$agent': expected torchrun or deepspeed" >&2
  exit 2
  ;;
esac
