#!/usr/bin/env python3
"""Limits of the system on files, threads and memory: the run is done, or ends with 69 and one line
that names the limit. It never crashes, hangs, or prints only a library's message.

    python3 limits_test.py --program build/ptb_dist [--every N] [unittest's arguments]

Each limit is swept over the values between "not even the loader" and "more than enough", so that
each file, thread and allocation on the way is once the first that fails. --every N takes each Nth
value.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "program"))
import program  # noqa: E402

MISSING = 69
LOADER = 127  # the dynamic loader was refused a library
TINY = ["--data", "synthetic", "--synthetic-tokens", "2000", "--synthetic-vocab", "20",
        "--vocab-size", "20", "--hidden-size", "4", "--num-steps", "4", "--batch-size", "4",
        "--eval-lanes", "2", "--max-windows", "2"]
USER = 61234  # root is exempt from a limit on processes
NAMES = {"nofile": "ulimit -n", "nproc": "ulimit -u", "as": "ulimit -v"}


class Limits(program.TestCase):
    every = 1

    def end_under(self, limit, value, flags=()):
        launcher = ["prlimit", f"--{limit}={value}"]
        run_dir = self.scratch / f"{limit}{value}"
        if limit == "nproc" and os.geteuid() == 0:
            launcher = ["setpriv", f"--reuid={USER}", "--clear-groups", *launcher]
            os.chmod(self.scratch, 0o777)
        script = self.scratch / "limited.sh"
        script.write_text(f'#!/bin/sh\nexec {" ".join(launcher)} "{self.program}" "$@"\n')
        script.chmod(0o755)
        changes = {"HOME": str(self.scratch), "TMPDIR": str(self.scratch)}
        return program.run([*TINY, *flags, "--run-dir", str(run_dir)], script,
                           cwd=self.scratch, changes=changes)

    def sweep(self, limit, values, flags=()):
        met = done = 0
        for value in values:
            with self.subTest(limit, value=value):
                ended = self.end_under(limit, value, flags)
                if ended.status == LOADER and "shared libraries" in ended.err:
                    continue
                self.assertIn(ended.status, (0, MISSING), ended.err[-2000:])
                errors = [line for line in ended.err.splitlines()
                          if line.startswith("ptb_dist: error: ")]
                self.assertEqual(len(errors), 0 if ended.status == 0 else 1, ended.err[-2000:])
                for error in errors:
                    self.assertIn(NAMES[limit], error)
                done += ended.status == 0
                met += ended.status == MISSING
        self.assertGreater(met, 0)
        self.assertGreater(done, 0)

    def test_files(self):
        self.sweep("nofile", [*range(6, 48, self.every), 64], ["--threads", "2"])

    def test_threads(self):
        if os.geteuid() == 0 and not shutil.which("setpriv"):
            self.skipTest("setpriv is missing")
        if os.geteuid() == 0 and not is_readable_by_others(self.program):
            self.skipTest("the program cannot be read by another user")
        if os.geteuid() != 0:
            self.skipTest("another process of this user would count")
        self.sweep("nproc", [*range(1, 24, self.every), 200], ["--threads", "6"])

    def test_address_space(self):
        least = self.least_for_the_loader()
        step = 7 << 20
        self.sweep("as", [*range(least, least + (640 << 20), step * self.every), least + (4 << 30)],
                   ["--threads", "2"])

    def least_for_the_loader(self):
        """Bytes of address space with which the program comes to its first line, to 4 MiB."""
        low, high = 1 << 20, 8 << 30
        while high - low > 4 << 20:
            middle = (low + high) // 2
            ended = self.end_under("as", middle, ["--no-such-flag"])
            low, high = (middle, high) if ended.status == LOADER else (low, middle)
        return high


def is_readable_by_others(path):
    command = ["setpriv", f"--reuid={USER}", "--clear-groups", "test", "-x", str(path)]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sweeps = argparse.ArgumentParser(add_help=False)
    sweeps.add_argument("--every", type=int, default=1)
    program.run_tests(sweeps, begin=lambda args: setattr(Limits, "every", args.every))
