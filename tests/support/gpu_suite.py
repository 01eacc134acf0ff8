#!/usr/bin/env python3
"""The GPU suite where there is no ctest: the tests of its label gpu, in a bundle.

    bin/gpu_suite.sh                            of a bundle made by launch/bundle.sh --tests
    bin/gpu_suite.sh gpu_ranks gpu_model        these alone
    PTB_DIST_REQUIRE=gpu bin/gpu_suite.sh       a skipped test has failed

A line for each test: passed, failed, or skipped with the reason; behind that of a failed one is its
output. Exit status 0 if none failed, 1 if one did, 2 for a name that no test has.

Which tests there are, and how they are called, is in gpu_suite.json: what ctest --show-only=json-v1
said of the build, but that its paths begin with @BUNDLE@/ for the folder of the bundle, python3 and
mpirun are those of PATH.
"""

import argparse
import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
BUNDLE = HERE.parent.parent


def stop(process):
    """Drivers end the ranks that they started when they are interrupted."""
    for kind, seconds in ((signal.SIGINT, 20), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, kind)
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return process.wait()


def run(test):
    """(passed, skipped or failed; more about it; the output)"""
    properties = {entry["name"]: entry["value"] for entry in test["properties"]}
    command = [word.replace("@BUNDLE@", str(BUNDLE), 1) for word in test["command"]]
    changes = dict(change.split("=", 1) for change in properties.get("ENVIRONMENT", []))
    seconds = properties.get("TIMEOUT")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ptb_dist_gpu_") as scratch, \
            tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(command, cwd=scratch, env={**os.environ, **changes},
                                   stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(seconds)
            more = f"exit status {status}"
        except subprocess.TimeoutExpired:
            status, more = None, f"stopped after {seconds:g} s"
        finally:
            if process.returncode is None:
                stop(process)
        output.seek(0)
        text = output.read()
    if status == 0:
        return "passed", f"{time.monotonic() - start:.1f} s", text
    if status is not None and status == properties.get("SKIP_RETURN_CODE"):
        reason = (text.splitlines() or ["no reason"])[-1]  # complaints may stand before it
        return "skipped", reason.removeprefix("skipped: "), text
    return "failed", more, text


def main():
    parser = argparse.ArgumentParser(prog="gpu_suite.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TEST", help="default: all")
    args = parser.parse_args()
    listed = json.loads((HERE / "gpu_suite.json").read_text())["tests"]
    tests = {test["name"]: test for test in listed}
    for name in args.names:
        if name not in tests:
            parser.error(f"{name}: no such test; there are {', '.join(tests)}")
    counts = collections.Counter(passed=0, skipped=0, failed=0)
    for name in args.names or tests:
        verdict, more, output = run(tests[name])
        counts[verdict] += 1
        print(f"{verdict} {name}: {more}", flush=True)
        if verdict == "failed":
            print("".join(f"    {line}\n" for line in output.splitlines()), end="", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
