#!/usr/bin/env bash
# Runs a test that needs a GPU, or says why not: on_gpu.sh PTB_DIST COMMAND... Ends with 77, which
# ctest takes for skipped, where ptb_dist finds none.
program=$1
shift
reason=$("$program" --backend cuda --data synthetic --config test --dry-run 2>&1 >/dev/null)
status=$?
if [ "$status" -eq 69 ]; then
  echo "skipped: $reason"
  exit 77
fi
if [ "$status" -ne 0 ]; then
  echo "$reason"
  exit "$status"
fi
exec "$@"
