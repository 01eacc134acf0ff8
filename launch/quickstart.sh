#!/usr/bin/env bash
# From a clean clone to a trained language model, on all cores of this machine:
# installs packages, builds, fetches the Penn Treebank, trains.
#
#   launch/quickstart.sh --epochs 1               a first look
#   launch/quickstart.sh                          the small model of Zaremba et al., 13 epochs
#   launch/quickstart.sh --data DIR --np 4 ...    your corpus, number of ranks, options of ptb_dist
#
# Builds build/ and trains with one MPI rank per core, at most 20: the batch has 20 lanes. The
# corpus is --data DIR, else $PTB_DATA, else data/ptb, else it is downloaded (launch/get_ptb.sh).
# Without a network it says so and trains on the corpus that is built in. After the first time
# no network is needed.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

data=${PTB_DATA:-}
ranks=$(default_ranks)
options=()
while (($# > 0)); do
  case "$1" in
    --data | --np) (($# > 1)) || fail 2 "$1: a value is missing" ;;&
    --data) data=$2 && shift ;;
    --data=*) data=${1#*=} ;;
    --np) ranks=$2 && shift ;;
    --np=*) ranks=${1#*=} ;;
    --help | -h) usage && exit ;;
    *) options+=("$1") ;;
  esac
  shift
done
[[ $ranks =~ ^[1-9][0-9]*$ ]] || fail 2 "--np $ranks: not a number of ranks"
if [[ -n $data && $data != synthetic ]] && ! is_corpus "$data"; then
  fail 65 "$data: ptb.train.txt, ptb.valid.txt or ptb.test.txt cannot be read;" \
    "run launch/get_ptb.sh $data, or name another folder by --data"
fi

"$project/launch/packages.sh"
configure_and_build build ptb_dist -DCMAKE_BUILD_TYPE=Release

if [[ -z $data ]]; then
  data=$project/data/ptb
  status=0
  is_corpus "$data" || "$project/launch/get_ptb.sh" "$data" || status=$?
  if ((status == 69)); then # no network; what else is wrong would stay wrong unseen
    data=synthetic
    say "NOTE: no Penn Treebank, see above: training on the built-in corpus (--data synthetic)"
    say "NOTE: its perplexities say that training works, and compare with no published figure"
  elif ((status != 0)); then
    exit "$status"
  fi
fi

# Bound, a single rank would have one core for all its threads.
# --oversubscribe: Open MPI counts cores in its own way, and would refuse to start one rank more.
set -- mpirun -np "$ranks" --bind-to none --oversubscribe \
  "$project/build/ptb_dist" --data "$data" "${progress[@]}" "${options[@]}"
say "$*"
exec "$@"
