#!/bin/bash
# All GPUs of this machine: launchers/one_machine.sh ARGUMENTS OF flamingo_ds.train
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
trap '' USR1 # torchrun would end of it and leave the ranks behind. Ctrl-C and TERM, which it passes on, stop ranks as well
exec torchrun --standalone --nproc-per-node="$RANKS" -m flamingo_ds.train "$@"
