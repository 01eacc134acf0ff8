#!/usr/bin/env bash
# Trains on this machine to the end of the run: starts mpirun, and starts it again from the newest
# checkpoint after a failure that may pass.
#
#   launch/run.sh --run-dir runs/large --config large     begins the run, or goes on with it
#   launch/run.sh --np 4 --config small                   in a new folder, which it names
#   launch/run.sh --run-dir DIR --fresh ...               begins anew; the old run is moved aside
#
# Its own options; all others are ptb_dist's (build/ptb_dist --help):
#   --np N                         ranks; default one per core, at most 20
#   --max-restarts N               default 100
#   --max-no-progress-restarts N   gives up when the newest checkpoint was the same after so many
#                                  restarts; default 3
#   --restart-pause SECONDS        before a restart; doubled, up to a minute, for each one without
#                                  progress; default 1
#   --program FILE                 default build/ptb_dist
#
# Ends with 0 when the run is done, and with the code of the last attempt where a restart would not
# help: 2, 65, 69, 74, 76 (../README.md, "Stop and restart"), too many restarts, or one of its own
# signals. USR1 saves and starts again. INT (Ctrl-C), TERM, HUP, USR2 and XCPU save and end, with
# 75; a second one ends at once, with 130, and the run goes on from its last checkpoint another
# time. Under nohup it outlives its terminal.
# --fresh and --inject are for the first attempt alone.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

declare -A number=([--np]=$(default_ranks) [--max-restarts]=100 [--max-no-progress-restarts]=3
  [--restart-pause]=1)
run_dir=
program=$project/build/ptb_dist
fresh=0
injected=()
options=()
while (($# > 0)); do
  case "$1" in
    --np=* | --max-restarts=* | --max-no-progress-restarts=* | --restart-pause=* | --run-dir=* | \
      --program=* | --inject=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
  esac
  case "$1" in
    --np | --max-restarts | --max-no-progress-restarts | --restart-pause | --run-dir | --program | \
      --inject) (($# > 1)) || fail 2 "$1: a value is missing" ;;&
    --np | --max-restarts | --max-no-progress-restarts | --restart-pause)
      [[ $2 =~ ^(0|[1-9][0-9]{0,8})$ ]] || fail 2 "$1 $2: not a number"
      number[$1]=$2 && shift ;;
    --run-dir) run_dir=$2 && shift ;;
    --program) program=$2 && shift ;;
    --inject) injected+=("$1" "$2") && shift ;;
    --fresh) fresh=1 ;;
    --resume | --resume=*) fail 2 "--resume: this script gives it; to begin from a file, run" \
      "ptb_dist --resume FILE --run-dir DIR once, and then this" ;;
    --help | -h) usage && exit ;;
    *) options+=("$1") ;;
  esac
  shift
done
((number[--np] > 0)) || fail 2 "--np 0: not a number of ranks"
[[ -x $program ]] || fail 69 "$program: not there or no program; build it with" \
  "cmake -S . -B build -G Ninja && cmake --build build, or name another by --program"
command -v mpirun >/dev/null || fail 69 "mpirun: not found; launch/packages.sh installs it"
[[ -n $run_dir ]] || run_dir=runs/run-$(date +%Y%m%d-%H%M%S)

# The step of the newest checkpoint, by its name; -1 if there is none.
newest_step() {
  local newest=-1 step
  for step in "$run_dir"/checkpoints/g*-step-*.h5; do
    step=${step##*-step-}
    step=${step%.h5}
    if [[ $step =~ ^[0-9]{1,18}$ ]] && ((10#$step > newest)); then newest=$((10#$step)); fi
  done
  echo "$newest"
}

# What tells the checkpoints of one run from those of the next in the same folder.
checkpoints_identity() { stat -c %d:%i "$run_dir/checkpoints" 2>/dev/null || true; }

# --- signals ---

stops=0    # INT, TERM, HUP, USR2 or XCPU came so many times
has_come=0 # a signal, since the last look
child=     # mpirun, or what is waited for between two attempts
reminder=  # asks it again

tell_child() { if [[ -n $child ]]; then kill "-$1" "$child" 2>/dev/null || true; fi; }

# Before its ranks are there mpirun loses a signal, so it is asked until it has ended.
remind() { while sleep 2 && kill -USR1 "$1"; do :; done; }
start_reminder() {
  if [[ -z $child || -n $reminder ]]; then return; fi
  remind "$child" >/dev/null 2>&1 &
  reminder=$!
}

# mpirun answers TERM by killing the ranks 2 s later, too soon for a large checkpoint; it hands USR1
# on to them, and they leave when they have saved.
stop() {
  has_come=1
  stops=$((stops + 1))
  if ((stops == 1)); then
    tell_child USR1
    start_reminder
    say "$1: asking the run to save and to stop; a second signal ends it at once"
  else
    tell_child TERM
    say "$1: ending it at once"
  fi
}
trap 'stop SIGINT' INT
trap 'stop SIGTERM' TERM
trap 'stop SIGHUP' HUP
trap 'stop SIGUSR2' USR2
trap 'stop SIGXCPU' XCPU
trap 'has_come=1; tell_child USR1; say "SIGUSR1: asking the run to save"' USR1
trap '' PIPE # "| tee" may be gone before the run has saved

# attend COMMAND...: runs it and sets `status`. In a session of its own, or a terminal would send
# Ctrl-C to it as well. A signal ends bash's wait, so that it may take several.
attend() {
  setsid "$@" </dev/null &
  child=$!
  if ((stops > 0)); then tell_child USR1 && start_reminder; fi # it came while `child` was unknown
  while
    has_come=0 status=0
    wait "$child" 2>/dev/null || status=$? # bash would tell of a kill in its own words
    ((has_come))
  do :; done
  child=
  if [[ -n $reminder ]]; then kill "$reminder" 2>/dev/null || true; fi
  reminder=
}

# --- attempts ---

pause_before_restart() {
  local seconds=$((number[--restart-pause] << (idle < 6 ? idle : 6)))
  if ((seconds > 60)); then seconds=60; fi
  say "attempt $attempt ended with $status: restart $attempt of at most" \
    "${number[--max-restarts]} in $seconds s, from $(from_text)"
  local status # not the attempt's
  attend sleep "$seconds"
  # Ranks may outlive mpirun by seconds.
  if [[ -e $run_dir/.lock ]] && ((stops == 0)); then
    attend flock --wait 30 "$run_dir/.lock" true
  fi
}

from_text() { if ((last_step < 0)); then echo 'the beginning'; else echo "step $last_step"; fi; }

# over WORD...: says why there is no restart, and ends with the last attempt's code.
over() {
  say "attempt $attempt ended with $status: $*"
  exit "$status"
}

old_checkpoints=
if ((fresh)); then old_checkpoints=$(checkpoints_identity); fi
last_step=$(newest_step) # the highest that was seen
if ((fresh)); then last_step=-1; fi
idle=0 # restarts since it was
for ((attempt = 1; ; ++attempt)); do
  from=(--resume auto)
  if ((fresh)); then from=(--fresh); fi
  set -- mpirun -np "${number[--np]}" --bind-to none --oversubscribe \
    "$program" --run-dir "$run_dir" "${from[@]}" "${progress[@]}" "${options[@]}" "${injected[@]}"
  say "attempt $attempt: $*"
  attend "$@"

  if ((stops > 1)); then status=130; fi
  # mpirun was there, or its ranks', whose libraries take some time, but nobody to ask yet.
  if ((stops > 0 && status == 138)); then status=75; fi
  case $status in
    0) say "done in $run_dir (restarts: $((attempt - 1)))" && exit ;;
    2 | 65 | 69 | 74 | 76) over "a restart would not help, see above" ;;
  esac
  if ((stops > 0)); then over "stopped on request; --run-dir $run_dir goes on with it"; fi
  step=$(newest_step)
  if ((step > last_step)); then last_step=$step idle=0; fi
  if ((attempt > number[--max-restarts])); then
    over "giving up: --max-restarts ${number[--max-restarts]}"
  fi
  if ((idle >= number[--max-no-progress-restarts])); then
    over "giving up: --max-no-progress-restarts $idle without a newer checkpoint than $(from_text)"
  fi
  # An attempt that was killed before it came to it has not moved the old run aside.
  if [[ -z $old_checkpoints || $(checkpoints_identity) != "$old_checkpoints" ]]; then fresh=0; fi
  injected=()
  pause_before_restart
  if ((stops > 0)); then over "stopped on request; --run-dir $run_dir goes on with it"; fi
  idle=$((idle + 1))
done
