#!/usr/bin/env bash
# Says why the emulation's tests are not there: not_built.sh REASON... Ends with 77, which ctest
# takes for skipped, or with 1 where PTB_DIST_REQUIRE has cuda_on_cpu.
echo "$*"
case ",${PTB_DIST_REQUIRE:-}," in
  *,cuda_on_cpu,*) exit 1 ;;
  *) exit 77 ;;
esac
