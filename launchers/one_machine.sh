#!/bin/bash
# All GPUs of this machine: launchers/one_machine.sh ARGUMENTS OF flamingo_ds.train
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
trap '' USR1 # torchrun would end of it; send it to the ranks, or to the group: kill -USR1 -- -PID
exec torchrun --standalone --nproc-per-node="$RANKS" -m flamingo_ds.train "$@"
