# What all of these scripts begin with; sourced, never run. Yours to set beforehand:
#   PYTHON          interpreter, with torchrun and deepspeed beside it; default .venv/bin/python
#   RANKS_PER_NODE  default: a rank a GPU that SLURM granted here, else as many as tasks, else as this machine has GPUs

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
BIN=$(dirname "$PYTHON")
RANKS=${RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-${SLURM_NTASKS_PER_NODE:-}}}
[[ -n $RANKS ]] || RANKS=$(nvidia-smi --list-gpus 2>/dev/null | grep -c .) || RANKS=1
export RANKS_PER_NODE=$RANKS # for agents: in their own step there is one task a node
# This folder's code runs, wherever it is called from.
export PATH=$BIN:$PATH PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

need_job() { # HOSTFILE: for scripts that start something on several nodes; nodes that differ are refused
  "$PYTHON" "$ROOT/launchers/hostfile.py" --slots "$RANKS" >"${1:-/dev/null}" || exit 2
}
