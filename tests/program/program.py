"""Runs the program as a user would; the test drivers of this folder share it."""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SKIPPED = 77  # exit status of a driver that lacks what it needs (SKIP_RETURN_CODE of ctest)
MPIRUN = "mpirun --oversubscribe --bind-to none"
# Enough for gates of every kind to matter, and for lanes that 3 and 8 ranks cannot share evenly.
SMALL_MODEL = ["--data", "synthetic", "--synthetic-tokens", "20000", "--synthetic-vocab", "300",
               "--vocab-size", "300", "--hidden-size", "24", "--num-steps", "7", "--threads", "1"]


@dataclasses.dataclass
class Ended:
    status: int
    out: str
    err: str
    survivors: list  # processes of the run that are still there


# What would make a run another one: a corpus, and the traces of a job that the tests run in.
HIDDEN_VARIABLES = ("PTB_DATA", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


def environment(changes=None):
    defaults = dict(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN_VARIABLES}
    return {**defaults, **kept, **(changes or {})}


def processes_of_session(session):
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # state, parent, group, session
        except OSError:
            continue  # it ended meanwhile
        if fields[0] != "Z" and int(fields[3]) == session:
            found.append(int(stat.parent.name))
    return found


def start(arguments, program, ranks=1, mpirun=MPIRUN, cwd=None, changes=None):
    """Begins a run, in a session of its own; without mpirun for one rank."""
    launcher = [] if ranks == 1 else [*shlex.split(mpirun), "-np", str(ranks)]
    return subprocess.Popen([*launcher, str(program), *arguments], cwd=cwd, text=True,
                            env=environment(changes), start_new_session=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def run(arguments, program, timeout=50, **where):
    """One run, to its end. Never leaves a process behind."""
    process = start(arguments, program, **where)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        deadline = time.monotonic() + (5 if process.returncode is not None else 0)
        while (survivors := processes_of_session(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for survivor in survivors:
            with contextlib.suppress(ProcessLookupError):
                os.kill(survivor, signal.SIGKILL)
    return Ended(process.returncode, out, err, survivors)


def wait_for_fault(process):
    """Until a rank tells of its injected fault (--inject); the number of its process."""
    for line in process.stderr:
        if told := re.search(r"\(process (\d+)\): injected", line):
            return int(told[1])
    raise RuntimeError(f"no fault was injected; exit status {process.wait()}")


def checkpoints(run_dir):
    """Those of a run by its step, the last generation's."""
    found = {}
    for path in sorted(pathlib.Path(run_dir, "checkpoints").glob("g*-step-*.h5")):
        found[int(path.stem.partition("-step-")[2])] = path
    return found


def records(run_dir, kind=None):
    """Records of metrics.jsonl; of one kind, if it is given."""
    lines = pathlib.Path(run_dir, "metrics.jsonl").read_text().splitlines()
    all_records = [json.loads(line, parse_constant=not_json) for line in lines]
    return [record for record in all_records if kind in (None, record["kind"])]


def not_json(constant):
    raise ValueError(f"{constant} is not JSON")


def train(arguments, run_dir, program, **where):
    """A run that must succeed; its metrics."""
    ended = run(["--metrics-windows", "1", *arguments, "--run-dir", str(run_dir)], program, **where)
    if ended.status != 0:
        raise RuntimeError(f"exit status {ended.status} of {program} {shlex.join(arguments)}\n"
                           f"{ended.out}{ended.err}")
    return records(run_dir)


def relative_difference(a, b):
    """Of two numbers; infinite if one is not finite (null in JSON): that meets no bound."""
    if a is None or b is None or not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b), 1e-300)


def add_arguments(parser: argparse.ArgumentParser):
    parser.add_argument("--program", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--mpirun", default=MPIRUN, help="launcher, with its options")


def ptb_folder():
    """$PTB_DATA, or nothing; an error where PTB_DIST_REQUIRE has ptb."""
    folder = os.environ.get("PTB_DATA")
    if not folder and "ptb" in os.environ.get("PTB_DIST_REQUIRE", "").split(","):
        raise RuntimeError("PTB_DIST_REQUIRE has ptb, but PTB_DATA is unset")
    return folder or None


class TestCase(unittest.TestCase):
    """A test of the program that run_tests() was told, with a scratch folder of its own."""

    program = None
    mpirun = MPIRUN

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ptb_dist_train_")
        self.addCleanup(folder.cleanup)
        self.scratch = pathlib.Path(folder.name)
        self.runs = 0

    def run_program(self, arguments, ranks=1, **where):
        return run(arguments, self.program, ranks=ranks, mpirun=self.mpirun,
                   **{"cwd": self.scratch, **where})

    def start_program(self, arguments, ranks=1, **where):
        return start(arguments, self.program, ranks=ranks, mpirun=self.mpirun,
                     **{"cwd": self.scratch, **where})

    def each_rank(self, script, binary=None):
        """A program in which the shell sets something for rank $RANK first."""
        path = self.scratch / "each_rank.sh"
        path.write_text(f'#!/bin/sh\nRANK=${{OMPI_COMM_WORLD_RANK:-0}}\n{script}\n'
                        f'exec {shlex.quote(str(binary or self.program))} "$@"\n')
        path.chmod(0o755)
        return path

    def train(self, arguments, ranks=1, run_dir=None, **where):
        """A run that must succeed; its metrics."""
        self.runs += 1
        return train(arguments, run_dir or self.scratch / f"run{self.runs}", self.program,
                     ranks=ranks, mpirun=self.mpirun, cwd=self.scratch, **where)


def run_tests(parser=None, begin=lambda args: None, end=lambda: None):
    """unittest.main() with the drivers' own arguments before its; a driver may have more of them,
    with which `begin` is called, and something to say at the end."""
    parser = parser or argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    args, rest = parser.parse_known_args()
    TestCase.program, TestCase.mpirun = args.program, args.mpirun
    begin(args)
    result = unittest.main(argv=["test", *rest], exit=False).result
    end()
    skipped = [test for test, _ in result.skipped]
    # A class that is skipped as a whole does not count among the tests that ran.
    is_all = result.testsRun == sum(isinstance(test, unittest.TestCase) for test in skipped)
    sys.exit(SKIPPED if skipped and is_all else not result.wasSuccessful())
