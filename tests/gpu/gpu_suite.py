#!/usr/bin/env python3
"""The GPU suite where there is no ctest: the tests of its label gpu, in a bundle.

    bin/gpu_suite.sh                            of a bundle made by launch/bundle.sh --tests
    bin/gpu_suite.sh gpu_ranks gpu_model        these alone
    bin/gpu_suite.sh --minutes 5 --quick        it ends in that time; one run of each kind
    bin/gpu_suite.sh --json FILE                and a JSON object a line, as soon as it is known
    PTB_DIST_REQUIRE=gpu bin/gpu_suite.sh       a skipped test has failed

Prints the machine, then a line for each test: passed, failed, skipped with the reason, or not run
because time was up. The output of a failed test follows its line. A test that does not end is
stopped with all that it started, and the next one runs. Exit status 0 if none failed and all were
run, 1 otherwise, 2 for a name that no test has.

tests/bench/gpu.sh runs tests by run(), with the limits and in the order of its own.

The lines of FILE, by their "kind": machine (gpu_machine.py); test, with its verdict, seconds, the
end of its output, and clocks and power while it ran; end, with the counts.

gpu_suite.json lists the tests and their commands. It is the output of ctest --show-only=json-v1 in
the build, except that paths begin with @BUNDLE@/, which stands for the folder of the bundle, and
that python3 and mpirun are those of PATH.
"""

import argparse
import collections
import json
import os
import pathlib
import signal
import sys
import tempfile
import time

import gpu_machine
import gpu_process
from gpu_process import Missing

HERE = pathlib.Path(__file__).resolve().parent
BUNDLE = HERE.parent.parent
TIMEOUT = 1500  # seconds of a test that has no limit of its own; ctest's, too
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


def tests(listed=None, build=None):
    """By name. `listed`: a file as gpu_suite.json; without one the bundle's, and where this is no
    bundle, what ctest says of `build`. Missing where there are none."""
    listed = listed or HERE / "gpu_suite.json"
    try:
        if build is not None and not listed.is_file():
            text = gpu_process.run(["ctest", "--test-dir", build, "-L", "^gpu$",
                                    "--show-only=json-v1"], 30, os.environ)
        else:
            text = listed.read_text()
    except OSError as error:
        raise Missing(f"{listed}: {error.strerror}") from None
    return {test["name"]: test for test in json.loads(text)["tests"]}


def run(test, seconds, grace, **changes):
    """(passed or failed or skipped; more about it; the output); it may take `seconds`, None: its
    own limit. `changes` of the environment."""
    properties = {entry["name"]: entry["value"] for entry in test["properties"]}
    command = [word.replace("@BUNDLE@", str(BUNDLE), 1) for word in test["command"]]
    changes |= dict(change.split("=", 1) for change in properties.get("ENVIRONMENT", []))
    if (BUNDLE / "bin/mpirun").is_file():  # which is the one for its programs
        changes["PATH"] = f"{BUNDLE / 'bin'}:{os.environ['PATH']}"
    limits = [limit for limit in (properties.get("TIMEOUT", TIMEOUT), seconds) if limit is not None]
    with tempfile.TemporaryDirectory(prefix="ptb_dist_gpu_") as scratch:
        try:
            # Drivers end their ranks when they are interrupted.
            ended = gpu_process.run_to_end(command, min(limits), {**os.environ, **changes}, scratch,
                                           signal.SIGINT, grace, is_merged=True)
        except Missing as reason:
            return "failed", str(reason), ""
    if ended.status == 0:
        return "passed", f"{ended.seconds:.1f} s", ended.out
    if ended.status is None:
        return "failed", f"stopped after {ended.seconds:.1f} s", ended.out
    if ended.status == properties.get("SKIP_RETURN_CODE"):
        reason = gpu_process.last_line(ended.out)  # complaints may stand before it
        return "skipped", reason.removeprefix("skipped: "), ended.out
    return "failed", f"exit status {ended.status}", ended.out


def run_all(tests, args, rows):
    """How many had which verdict."""
    counts = collections.Counter(passed=0, skipped=0, failed=0)
    budget = Budget(args.minutes)
    machine = gpu_machine.machine()
    print(f"machine: {gpu_machine.line(machine)}", flush=True)
    rows.add("machine", **machine)
    changes = dict(PTB_DIST_TEST_QUICK="1") if args.quick else {}
    with gpu_machine.Sampler() as sampler:
        if sampler.process:
            gpu_process.kept.add(sampler.process.pid)
        for test in tests:
            left, start = budget.left(), time.monotonic()
            if left is not None and left <= 0:
                verdict, more, output = "not run", "the time was up", ""
            else:
                sampler.summary()  # what was before it is not its own
                verdict, more, output = run(test, left, budget.grace, **changes)
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
    known = tests()
    for name in args.names:
        if name not in known:
            parser.error(f"{name}: no such test; there are {', '.join(known)}")
    try:
        rows = Rows(args.json)
    except OSError as error:
        parser.error(f"--json {args.json}: {error.strerror}")
    gpu_process.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started does not outlive it
    counts = run_all([known[name] for name in args.names or known], args, rows)
    rows.add("end", **counts)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 1 if counts["failed"] or counts["not run"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
