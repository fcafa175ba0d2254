# ----------------------------------------------------------------------------------------------------------------------
# Nothing below needs an edit. Exit codes: 0 done, 1 failed, 2 wrong configuration, 85 stopped behind a whole checkpoint,
# 86 the same by RUN_DIR/stop.

# What runs is the snapshot, whatever lies in the folder of submission.
export PYTHONPATH=$CODE${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1
# srun does not take it over by itself since SLURM 22.05.
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
LOGS=$RUN_DIR/logs/$SLURM_JOB_ID
FAILURES=$RUN_DIR/logs/failures
EXCLUDED=$LOGS/excluded
STARTS=$((${SLURM_RESTART_COUNT:-0} + 1))
RANKS=${SLURM_TASKS_PER_NODE%%(*} # of a node: 8 of 8(x4)

say() { printf '%(%F %T)T job %s, start %s: %s\n' -1 "$SLURM_JOB_ID" "$STARTS" "$*"; }

end() { # CODE TEXT
  say "$2"
  timeout 60 "${HELPER[@]}" -m flamingo_ds.launching.summary "$RUN_DIR" || say "no summary was written"
  exit "$1"
}

state() { scontrol -o show job "$SLURM_JOB_ID" | sed -nE "s/.* $1=([^ (]+).*/\1/p"; } # one of SLURM's own words on it

requeue() { # CODE TEXT [NODES TO EXCLUDE]: SLURM ends this script for it, which has to live on for a moment
  ((REQUEUE)) || end "$1" "$2; this job does not queue again"
  local excluded
  excluded=$(state ExcNodeList)
  timeout 60 "${HELPER[@]}" -m flamingo_ds.launching.summary "$RUN_DIR" >/dev/null || say "no summary was written"
  trap '' TERM USR1
  scontrol requeue "$SLURM_JOB_ID" || end "$1" "$2; SLURM refuses to queue this job again"
  # Not before: it is refused while a job runs.
  [[ -z ${3:-} ]] || scontrol update "JobId=$SLURM_JOB_ID" "ExcNodeList=${excluded:+$excluded,}$3"
  say "$2; queued again"
  exit "$1"
}

# ---- signals: what comes here goes on to every rank, which saves and exits with 85

STOPPING=
REMINDER=

stop() { # SIGNAL
  [[ -z $STOPPING ]] || return 0
  STOPPING=$1
  say "$1: all ranks save and stop"
  [[ $1 == USR1 ]] || return 0 # TERM reaches ranks by itself
  # Again and again: a rank that is still starting hears nothing. In good time: scancel waits for a job that is ending,
  # and would then signal its next start.
  while :; do timeout 3 scancel --signal=USR1 "$SLURM_JOB_ID"; sleep 10; done &>/dev/null &
  REMINDER=$!
}
trap 'stop USR1' USR1 # before the time limit, and before a preemption
trap 'stop TERM' TERM # scancel, scontrol requeue, preemption, the time limit itself

run() { # COMMAND...: its exit code. In the background, since bash hears no signal while it waits for the foreground
  local process code=0
  "$@" &
  process=$!
  while :; do
    code=0
    wait "$process" || code=$?
    kill -0 "$process" 2>/dev/null || break # else a signal ended the waiting
  done
  [[ -z $REMINDER ]] || kill "$REMINDER" 2>/dev/null || true
  return "$code"
}

# ---- may it start?

last_step() { # that was done, by the metrics or else by the newest checkpoint
  local step
  step=$(tail -n 2 "$RUN_DIR/metrics.jsonl" 2>/dev/null | grep -oE '"step": ?[0-9]+' | tail -n 1 | grep -oE '[0-9]+') ||
    step=$(readlink "$RUN_DIR/checkpoints/latest" | grep -oE '[0-9]+$') || step=0
  echo "$((10#$step))"
}

mkdir -p "$LOGS"
((REQUEUE == 0 || STARTS > 1)) || rm -f "$FAILURES" # a new job has not failed yet; one of a chain inherits
touch "$FAILURES"
[[ ! -e $RUN_DIR/finished ]] || end 0 "nothing to do: $RUN_DIR/finished is there"
[[ $(tail -n 1 "$FAILURES") != "gave up" ]] || end 1 "not started: an earlier job gave up; remove $FAILURES to go on"
[[ ! -e $RUN_DIR/stop ]] || end 86 "not started: $RUN_DIR/stop is there; remove it to go on"
[[ $SLURM_TASKS_PER_NODE != *,* ]] ||
  end 2 "uneven nodes ($SLURM_TASKS_PER_NODE ranks): ask for them with --nodes and --ntasks-per-node"
((${SLURM_GPUS_ON_NODE:-$RANKS} >= RANKS)) ||
  end 2 "$RANKS ranks on the $SLURM_GPUS_ON_NODE GPUs of a node: see --ntasks-per-node, --gpus-per-node"
say "$SLURM_JOB_NUM_NODES nodes ($SLURM_JOB_NODELIST), $RANKS ranks each, behind step $(last_step)"

# ---- preflight: bad nodes are left out

if ((${#PREFLIGHT[@]})); then
  code=0
  run srun "${SRUN[@]}" --job-name=preflight --time="$PREFLIGHT_MINUTES" \
    --output="$LOGS/preflight-%N-%t.log" --open-mode=append \
    "$PYTHON" "$CODE/launchers/preflight.py" --run-dir "$RUN_DIR" "${PREFLIGHT[@]}" || code=$?
  if ((code)) && [[ -z $STOPPING ]]; then
    bad=$("${HELPER[@]}" -m flamingo_ds.launching.bad_nodes "$LOGS/preflight-$SLURM_JOB_ID.json") || bad=
    [[ -n $bad ]] || end 1 "preflight failed (exit code $code) and names no node; see $LOGS/preflight-*.log"
    touch "$EXCLUDED"
    (($(wc -l <"$EXCLUDED") < MAX_EXCLUSIONS)) ||
      end 1 "preflight: bad node $bad; nodes were excluded $MAX_EXCLUSIONS times already"
    echo "$bad" >>"$EXCLUDED"
    requeue 1 "preflight: bad node $bad is excluded" "$bad"
  fi
fi

# ---- training

# USR1 would end what has not asked for it yet: ranks while Python starts, and torchrun and deepspeed at any time.
SHIELD=(bash -c "trap '' USR1; exec \"\$@\"" shield)
code=85 # where a signal came during the preflight
if [[ -z $STOPPING ]]; then
  code=0
  run srun "${SRUN[@]}" "${TASKS[@]}" --job-name=train --output="$LOGS/%N-%t.log" --open-mode=append \
    "${SHIELD[@]}" "${TRAIN[@]}" || code=$?
  code=$("${HELPER[@]}" -m flamingo_ds.launching.exit_code "$RUN_DIR" "$code") || code=1 # what the ranks say of it counts
fi

# ---- what now?

step=$(last_step)
((code)) || end 0 "done at step $step"
((code != 86)) || end 86 "stopped at step $step by $RUN_DIR/stop; remove it and submit again to go on"
if [[ $STOPPING == TERM && $(state Reason) != TimeLimit ]]; then # SLURM knows whether it queues the job again
  ((code == 85)) || end "$code" "ended by SLURM at step $step, exit code $code"
  end 85 "stopped at step $step"
fi
((code != 85)) || requeue 85 "stopped at step $step"
((code != 2)) || end 2 "wrong configuration; see $LOGS"
if [[ $(tail -n 1 "$FAILURES") == "$step" ]]; then
  echo "gave up" >>"$FAILURES"
  end "$code" "failed again at step $step, exit code $code; see $LOGS"
fi
if (($(wc -l <"$FAILURES") >= MAX_RESTARTS)); then
  echo "gave up" >>"$FAILURES"
  end "$code" "failed at step $step, exit code $code, after $MAX_RESTARTS restarts; see $LOGS"
fi
echo "$step" >>"$FAILURES"
requeue "$code" "failed at step $step, exit code $code"
