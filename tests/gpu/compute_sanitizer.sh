#!/bin/sh
# A tiny training under one of the toolkit's checks: compute_sanitizer.sh TOOL PTB_DIST. TOOL is
# memcheck, racecheck, initcheck or synccheck; what it finds is an error. Ends with 77, or with 1
# where PTB_DIST_REQUIRE has gpu, if the toolkit's compute-sanitizer is not there.
# PTB_DIST_TEST_QUICK=1: in bf16 alone.
tool=$1 program=$2
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
if ! command -v compute-sanitizer >/dev/null; then
  echo "skipped: compute-sanitizer is neither in PATH nor in ${CUDA_HOME:-/usr/local/cuda}/bin"
  case ",${PTB_DIST_REQUIRE:-}," in
    *,gpu,*) exit 1 ;;
    *) exit 77 ;;
  esac
fi
# cuBLAS's kernels have hazards and barriers that these tools take for defects; what other kernels
# write, memcheck and initcheck must see. 3ptb4cuda is ptb::cuda, as names of our kernels have it.
ours='--kernel-name kns=3ptb4cuda'
case $tool in
  racecheck) options="$ours --racecheck-detect-level error" ;;
  synccheck) options=$ours ;;
  *) options= ;;
esac
precisions='fp32 bf16'
[ "${PTB_DIST_TEST_QUICK-}" != 1 ] || precisions=bf16
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for precision in $precisions; do
  # All processes: a bundle's program is a script that starts it.
  # shellcheck disable=SC2086 # options are words
  compute-sanitizer --tool "$tool" $options --target-processes all --error-exitcode 99 "$program" \
    --backend cuda --precision "$precision" --data synthetic --synthetic-tokens 2000 \
    --synthetic-vocab 200 --vocab-size 203 --hidden-size 18 --num-steps 6 --batch-size 20 \
    --keep-prob 0.5 --lane-groups 4 --comm mpi --max-windows 5 --run-dir "$scratch/$precision" ||
    exit
done
