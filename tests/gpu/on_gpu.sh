#!/bin/sh
# Runs a test that needs a GPU, or says why not: on_gpu.sh PTB_DIST COMMAND... Where ptb_dist finds
# none it ends with 77, which ctest takes for skipped, or with 1 where PTB_DIST_REQUIRE has gpu.
program=$1
shift
reason=$("$program" --backend cuda --data synthetic --config test --dry-run 2>&1 >/dev/null)
status=$?
if [ "$status" -eq 69 ]; then
  echo "skipped: $reason"
  case ",${PTB_DIST_REQUIRE:-}," in
    *,gpu,*) exit 1 ;;
    *) exit 77 ;;
  esac
fi
if [ "$status" -ne 0 ]; then
  echo "$reason"
  exit "$status"
fi
exec "$@"
