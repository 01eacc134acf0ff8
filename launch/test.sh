#!/usr/bin/env bash
# Builds everything and runs the test suite; ends with the summary of ctest and its exit status.
#
#   launch/test.sh                       all but the long sweeps, in build/
#   launch/test.sh --sanitize            the same in build-sanitize/, under ASan and UBSan
#   launch/test.sh -R checkpoint -j 8    options of ctest; -L or -LE: the labels are yours to choose
#
# Needs no GPU, and no network once launch/packages.sh --tests is satisfied. Tests of the Penn
# Treebank itself run where PTB_DATA names its folder. What a test has left out, since the machine
# lacks it, is listed at the end.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

folder=build
cmake_options=(-DCMAKE_BUILD_TYPE=Release -DPTB_DIST_TESTS=ON)
case "${1:-}" in
  --help | -h) usage && exit ;;
  --sanitize)
    shift
    folder=build-sanitize
    cmake_options=(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DPTB_DIST_TESTS=ON -DPTB_DIST_SANITIZE=ON)
    # Open MPI frees little before the process ends: its leaks would drown ours.
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0:detect_stack_use_after_return=1}
    export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
    ;;
esac

"$project/launch/packages.sh" --tests
configure_and_build "$folder" all "${cmake_options[@]}"

labels=(-LE 'sweep|fault')
case " $*" in *' -L'* | *' --label-'*) labels=() ;; esac
# Three at a time on two cores: many tests start several ranks and have deadlines, but some do
# little else than wait for one.
# ctest's own log is no place to look: the test of the bundle asks ctest in the same folder.
results=$project/$folder/tests.xml
rm -f "$results"
status=0
ctest --test-dir "$project/$folder" --output-on-failure -j 3 --output-junit "$results" \
  --test-output-size-passed 100000 "${labels[@]}" "$@" || status=$?
if [[ -e $results ]]; then # -N and its like make none
  sed -n -E 's/^(.*<system-out>)?skipped: /not tested here: /p' "$results" | sort -u
fi
exit "$status"
