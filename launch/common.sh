# shellcheck shell=bash
# What the scripts of launch/ share. Sourced, never run; the caller has `set -euo pipefail`.

script=${0##*/}
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Open MPI refuses to start as root, the usual user of a container, unless both are set.
if [[ $(id -u) == 0 ]]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# printable WORD...: one line without control characters, which a name may hold.
printable() {
  local text=$*
  printf '%s' "${text//[[:cntrl:]]/?}"
}

# Nobody may be there to read it, on a terminal that was closed.
say() { printf '%s: %s\n' "$script" "$(printable "$@")" 2>/dev/null || true; }

# fail CODE WORD...: one line. The codes are those of ptb_dist: 2 usage, 65 bad data, 69 resource
# missing, 70 internal error, 74 I/O.
fail() {
  local code=$1
  shift
  printf '%s: error: %s\n' "$script" "$(printable "$@")" >&2
  exit "$code"
}

# Prints the comment that opens the calling script.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# The processor cores that this process may use. Hardware threads of one core count once, and
# neither an affinity mask nor the CPU quota of a container is exceeded: ranks poll while they wait,
# so that one rank too many slows down all.
cores() {
  local count cores_of_host quota period
  # nproc follows these two, which say nothing of the cores.
  count=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  cores_of_host=$(lscpu -p=core,socket 2>/dev/null | grep -v '^#' | sort -u | wc -l || true)
  if ((cores_of_host > 0 && cores_of_host < count)); then count=$cores_of_host; fi
  if read -r quota period 2>/dev/null </sys/fs/cgroup/cpu.max && [[ $quota != max ]]; then
    quota=$((quota / period > 1 ? quota / period : 1))
    if ((quota < count)); then count=$quota; fi
  fi
  echo "$count"
}

# One rank per core; at most one per lane of the batch, which has 20.
default_ranks() {
  local count
  count=$(cores)
  echo "$((count < 20 ? count : 20))"
}

# progress: options of ptb_dist. A rank, which mpirun may have started on another host, cannot see
# whether a person looks on.
progress=()
# shellcheck disable=SC2034 # read by the scripts
if [[ -t 1 && -t 2 && ${TERM:-dumb} != dumb ]]; then progress=(--progress bar); fi

# is_corpus DIR: the three files are there. Any text under these names will do for ptb_dist.
is_corpus() { [[ -r $1/ptb.train.txt && -r $1/ptb.valid.txt && -r $1/ptb.test.txt ]]; }

# configure_and_build FOLDER TARGET [CMAKE OPTION...]: a folder that exists keeps its generator.
configure_and_build() {
  local folder=$project/$1 target=$2 generator=(-G Ninja)
  shift 2
  if [[ -f $folder/CMakeCache.txt ]]; then generator=(); fi
  cmake -S "$project" -B "$folder" "${generator[@]}" "$@" ||
    fail 69 "configuring $folder: CMake stopped, see above; remove that folder to start again"
  cmake --build "$folder" --target "$target" ||
    fail 70 "building $target in $folder: the compiler stopped, see above"
}
