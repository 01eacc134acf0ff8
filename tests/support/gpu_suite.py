#!/usr/bin/env python3
"""The GPU suite where there is no ctest: the tests of its label gpu, in a bundle.

    bin/gpu_suite.sh                            of a bundle made by launch/bundle.sh --tests
    bin/gpu_suite.sh gpu_ranks gpu_model        these alone
    bin/gpu_suite.sh --minutes 5 --quick        it ends in that time; one run of each kind
    bin/gpu_suite.sh --json FILE                and a JSON object a line, as soon as it is known
    PTB_DIST_REQUIRE=gpu bin/gpu_suite.sh       a skipped test has failed

First the machine. Then a line for each test: passed, failed, skipped with the reason, or not run
for want of time; behind that of a failed one is its output. A test that does not end is stopped
with all that it started, and those behind it go on. Exit status 0 if none failed and all were run,
1 otherwise, 2 for a name that no test has.

The lines of FILE, by their "kind": machine (gpu_machine.py); test, with its verdict, seconds, the
end of its output, and clocks and power while it ran; end, with the counts.

Which tests there are, and how they are called, is in gpu_suite.json: what ctest --show-only=json-v1
said of the build, but that its paths begin with @BUNDLE@/ for the folder of the bundle, python3 and
mpirun are those of PATH.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import gpu_machine

HERE = pathlib.Path(__file__).resolve().parent
BUNDLE = HERE.parent.parent
MARK = "PTB_DIST_GPU_SUITE_TEST"  # a variable that every process of a test has, and no other
KEPT = 4000  # characters of a test's output, in the file


class Budget:
    """What is left of --minutes, if it was given. Of it a twentieth, at most 20 s, is kept for
    stopping the last test."""

    def __init__(self, minutes):
        self.grace = 20.0 if minutes is None else min(20.0, 60 * minutes / 20)
        self.end = None if minutes is None else time.monotonic() + 60 * minutes

    def left(self):
        """Seconds for a test; None: no limit."""
        return None if self.end is None else self.end - self.grace - time.monotonic()


class Rows:
    """The file of --json; without one they go nowhere."""

    def __init__(self, path):
        self.file = path.open("w") if path else None

    def add(self, kind, **fields):
        if self.file:
            self.file.write(json.dumps(dict(kind=kind, **fields)) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())


def processes_of(mark):
    """Those of a test that are there, in whatever group or session."""
    for variables in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if f"{MARK}={mark}\0".encode() in variables.read_bytes():
                yield int(variables.parent.name)


def stop(process, mark, grace):
    """With all that the test started: of one that has ended, too. Drivers end their ranks when they
    are interrupted; what a driver of the GPU holds in the kernel cannot be ended, nor waited for."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(grace)
    deadline = time.monotonic() + 2
    while (left := list(processes_of(mark))) and time.monotonic() < deadline:
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.poll()  # a dead child is no longer there
        time.sleep(0.05)


def run(test, seconds, grace, is_quick):
    """(passed or failed or skipped; more about it; the output); it may take `seconds`."""
    properties = {entry["name"]: entry["value"] for entry in test["properties"]}
    command = [word.replace("@BUNDLE@", str(BUNDLE), 1) for word in test["command"]]
    changes = dict(change.split("=", 1) for change in properties.get("ENVIRONMENT", []))
    if is_quick:
        changes["PTB_DIST_TEST_QUICK"] = "1"
    limits = [limit for limit in (properties.get("TIMEOUT"), seconds) if limit is not None]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ptb_dist_gpu_") as scratch, \
            tempfile.TemporaryFile("w+", errors="replace") as output:
        changes[MARK] = scratch
        process = subprocess.Popen(command, cwd=scratch, env={**os.environ, **changes},
                                   stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(min(limits, default=None))
            more = f"exit status {status}"
        except subprocess.TimeoutExpired:
            status, more = None, f"stopped after {time.monotonic() - start:.1f} s"
        finally:
            stop(process, scratch, grace)
        output.seek(0)
        text = output.read()
    if status == 0:
        return "passed", f"{time.monotonic() - start:.1f} s", text
    if status is not None and status == properties.get("SKIP_RETURN_CODE"):
        reason = (text.splitlines() or ["no reason"])[-1]  # complaints may stand before it
        return "skipped", reason.removeprefix("skipped: "), text
    return "failed", more, text


def run_all(tests, args, rows):
    """How many had which verdict."""
    counts = collections.Counter(passed=0, skipped=0, failed=0)
    budget = Budget(args.minutes)
    machine = gpu_machine.machine()
    print(f"machine: {gpu_machine.line(machine)}", flush=True)
    rows.add("machine", **machine)
    with gpu_machine.Sampler() as sampler:
        for test in tests:
            left, start = budget.left(), time.monotonic()
            if left is not None and left <= 0:
                verdict, more, output = "not run", "the time was up", ""
            else:
                sampler.summary()  # what was before it is not its own
                verdict, more, output = run(test, left, budget.grace, args.quick)
            counts[verdict] += 1
            print(f"{verdict} {test['name']}: {more}", flush=True)
            if verdict == "failed":
                print("".join(f"    {line}\n" for line in output.splitlines()), end="", flush=True)
            rows.add("test", name=test["name"], verdict=verdict, more=more,
                     seconds=round(time.monotonic() - start, 1), output=output[-KEPT:],
                     gpus=sampler.summary())
    return counts


def main():
    parser = argparse.ArgumentParser(prog="gpu_suite.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TEST", help="default: all")
    parser.add_argument("--minutes", type=float, help="that all of it may take; default: no limit")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="it is written anew")
    parser.add_argument("--quick", action="store_true", help="fewer runs in each test")
    args = parser.parse_args()
    listed = json.loads((HERE / "gpu_suite.json").read_text())["tests"]
    tests = {test["name"]: test for test in listed}
    for name in args.names:
        if name not in tests:
            parser.error(f"{name}: no such test; there are {', '.join(tests)}")
    try:
        rows = Rows(args.json)
    except OSError as error:
        parser.error(f"--json {args.json}: {error.strerror}")
    counts = run_all([tests[name] for name in args.names or tests], args, rows)
    rows.add("end", **counts)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 1 if counts["failed"] or counts["not run"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
