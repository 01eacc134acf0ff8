#!/usr/bin/env python3
"""A run that is killed or stopped at random, again and again, ends as if nothing had happened.

    python3 kill_test.py --program build/ptb_dist [--rounds N] [--seed N] [unittest's arguments]

A round is one run of two epochs on 3 or 4 ranks that is disturbed a few times and resumed each
time. Compares the checkpoints, byte for byte, and the metrics without their times. Prints the seed
and, at the end, what was done. The moments are random in time, so a seed repeats them only roughly.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "program"))
import program  # noqa: E402
import resume_test  # noqa: E402
from program import checkpoints  # noqa: E402

MPIRUN_WAS_ENDED, STOPPED, KILLED = 1, 75, 137
ENDED_BY_USR1 = 128 + signal.SIGUSR1
INTERVAL = 20  # windows from one checkpoint to the next, in resume_test.RUN
DISTURBANCES = 3  # of one run, at most
PATIENCE = 10  # seconds; an idle machine takes 3 from a kill to the end of all processes
BEGUN = "Run directory: "  # the log of every start has it, soon after the first signal is caught
SLOW = ["--inject", "slow@1:0"]  # 200 ms a window


def windows_done(run_dir):
    """By the metrics; a line cut short by the kill does not count."""
    path = pathlib.Path(run_dir, "metrics.jsonl")
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return max([json.loads(line).get("step", 0) for line in lines], default=0)


class Disturbed(resume_test.ResumeTestCase):
    rounds = 1
    random = random.Random()
    done = collections.Counter()  # for the last line
    durations = {}  # seconds of an undisturbed run, by ranks

    def setUp(self):
        super().setUp()
        # What mpirun and the ranks leave behind is then of this test alone.
        self.of_mpirun = self.scratch / "mpirun"
        self.of_mpirun.mkdir()
        self.mpirun += f" --mca btl_vader_backing_directory {self.of_mpirun}"

    def duration(self, ranks):
        if ranks not in self.durations:
            start = time.monotonic()
            self.undisturbed(ranks)
            self.durations[ranks] = time.monotonic() - start
        return self.durations[ranks]

    def start(self, run_dir, ranks, *flags, options=""):
        process = program.start(
            [*resume_test.RUN, "--run-dir", str(run_dir), "--resume", "auto", *flags],
            self.program, ranks=ranks, mpirun=self.mpirun + options, cwd=self.scratch,
            changes={"TMPDIR": str(self.of_mpirun)})
        self.addCleanup(self.remove_survivors, process)
        return process

    def remove_survivors(self, process):
        for pid in program.processes_of_session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self, process, timeout=50):
        """Status and output; all processes of the run are gone with it, or soon after."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.assertEqual(program.processes_of_session(process.pid), [process.pid])
            # Open MPI 4.1.4 may wait for ever in its own end (PMIx_server_finalize) for a lock, if
            # a rank was killed within the milliseconds in which it greets mpirun.
            process.kill()
            out, err = process.communicate()
            self.done["mpirun had to be ended, which was alone"] += 1
        deadline = time.monotonic() + PATIENCE
        while program.processes_of_session(process.pid):
            self.assertLess(time.monotonic(), deadline, "a rank outlives mpirun")
            time.sleep(0.02)
        return process.returncode, out, err

    def each_round(self, rounds, disturb, flags=()):
        """disturb(process, run_dir, ranks) is called at a random time of a run, or of what is left
        of it; it answers whether the run is over."""
        for number in range(rounds):
            ranks = self.random.choice((3, 4))
            with self.subTest(round=number, ranks=ranks):
                run_dir = self.scratch / f"round{number}"
                self.disturb_until_done(run_dir, ranks, disturb, flags)
                self.assert_same_run(run_dir, ranks)
                self.done["runs that ended equal"] += 1

    def disturb_until_done(self, run_dir, ranks, disturb, flags):
        for _ in range(DISTURBANCES):
            moment = self.random.uniform(0, self.duration(ranks))
            process = self.start(run_dir, ranks, *flags)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            if disturb(process, run_dir, ranks):
                return
        self.go(run_dir, "--resume", "auto", ranks=ranks)

    def assert_checkpoints_are_good(self, run_dir):
        paths = [str(path) for path in pathlib.Path(run_dir, "checkpoints").glob("*.h5")]
        if paths:
            verified = self.run_program(["checkpoint", "verify", *paths])
            self.assertEqual(verified.status, 0, verified.err)

    def assert_stop_is_saved(self, run_dir, out):
        told = re.search(r"Stopped by (?:SIG\w+|a signal to another rank); windows done: (\d+);",
                         out)
        self.assertTrue(told, out)
        self.assertIn(int(told[1]), checkpoints(run_dir))


class Killed(Disturbed):
    def test_one_of_the_ranks_or_mpirun(self):
        self.each_round(self.rounds, self.kill_one)

    def kill_one(self, process, run_dir, ranks):
        victim = self.random.choice([*self.ranks_of(process), process.pid])
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                self.done["kills of mpirun" if victim == process.pid else "kills of a rank"] += 1
        status, out, err = self.end(process, timeout=2 * PATIENCE)
        # A rank may have done all its work when it is killed.
        self.assertIn(status, (0, KILLED, -signal.SIGKILL), out + err)
        self.assert_nothing_is_lost(run_dir, ranks)
        self.assert_nothing_is_left(is_mpirun_killed=status == -signal.SIGKILL)
        return status == 0

    def ranks_of(self, process):
        """Process numbers of the ranks, as soon as there are any; none if the run is over."""
        while process.poll() is None:
            pids = [pid for pid in program.processes_of_session(process.pid) if self.is_rank(pid)]
            if pids:
                return pids
            time.sleep(0.002)
        return []

    def is_rank(self, pid):
        try:
            return os.path.samefile(f"/proc/{pid}/exe", self.program)
        except OSError:
            return False  # it has ended

    def assert_nothing_is_lost(self, run_dir, ranks):
        """Every checkpoint is that of the undisturbed run, and the newest is at most one interval
        and one save old."""
        expected = checkpoints(self.undisturbed(ranks))
        found = checkpoints(run_dir)
        for step, path in found.items():
            self.assertTrue(path.read_bytes() == expected[step].read_bytes(), path)
        self.assertLessEqual(windows_done(run_dir) - max(found, default=0), 2 * INTERVAL)

    def assert_nothing_is_left(self, is_mpirun_killed):
        """Of shared memory and of mpirun's folders, which nobody removes if mpirun is killed."""
        left = [path for path in self.of_mpirun.rglob("*") if not path.name.startswith("ompi.")]
        if not is_mpirun_killed:
            self.assertEqual(left, [])
        elif left:
            self.done["kills of mpirun that left its files"] += 1
        shutil.rmtree(self.of_mpirun)
        self.of_mpirun.mkdir()


class Stopped(Disturbed):
    def test_usr1_to_mpirun(self):
        self.each_round(-(-self.rounds * 2 // 5), self.stop)

    def stop(self, process, run_dir, _):
        if process.poll() is None:
            process.send_signal(signal.SIGUSR1)
        status, out, err = self.end(process)
        by_signal = (ENDED_BY_USR1, -signal.SIGUSR1, -signal.SIGKILL)
        self.assertIn(status, (0, STOPPED, *by_signal), out + err)
        if status == STOPPED:
            self.assert_stop_is_saved(run_dir, out)
            self.done["stops by USR1"] += 1
        elif status != 0:  # it came before the program could catch it
            self.assertNotIn(BEGUN, out)
            self.done["ends by USR1 while starting"] += 1
        self.assert_checkpoints_are_good(run_dir)
        return status == 0


class Terminated(Disturbed):
    """mpirun that is told to end sends its ranks TERM one grace later, and KILL after another."""

    def test_the_usual_grace_of_a_second(self):
        self.each_round(-(-self.rounds // 10), self.terminate, SLOW)

    def terminate(self, process, run_dir, _):
        if process.poll() is None:
            process.terminate()
        status, out, err = self.end(process)
        self.assertIn(status, (MPIRUN_WAS_ENDED, -signal.SIGTERM, -signal.SIGKILL), out + err)
        is_saved = "Stopped by " in out
        if is_saved:
            self.assert_stop_is_saved(run_dir, out)
        self.done["saved within the grace of TERM" if is_saved else "ended by TERM, not saved"] += 1
        self.assert_checkpoints_are_good(run_dir)
        return False

    def test_a_save_that_takes_longer_than_the_grace(self):
        run_dir = self.scratch / "run"
        process = self.start(run_dir, 3, "--inject", "hang@0:60:save")
        program.wait_for_fault(process)
        process.terminate()
        self.assertEqual(self.end(process)[0], MPIRUN_WAS_ENDED)
        self.assertEqual(sorted(checkpoints(run_dir)), [20, 40])
        self.go(run_dir, "--resume", "auto")
        self.assert_same_run(run_dir)

    def test_a_grace_of_30_seconds(self):
        run_dir = self.scratch / "run"
        process = self.start(run_dir, 3, *SLOW, options=" --mca odls_base_sigkill_timeout 30")
        while process.poll() is None and windows_done(run_dir) < 5:
            time.sleep(0.05)
        process.terminate()
        status, out, err = self.end(process, timeout=100)
        self.assertEqual(status, MPIRUN_WAS_ENDED, out + err)
        self.assert_stop_is_saved(run_dir, out)
        self.go(run_dir, "--resume", "auto")
        self.assert_same_run(run_dir)


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    seed = None

    def begin(args):
        nonlocal seed
        seed, Disturbed.rounds = args.seed, args.rounds
        Disturbed.random.seed(seed)
        print(f"random faults: seed {seed}", file=sys.stderr)

    def end():
        told = ", ".join(f"{name}: {number}" for name, number in sorted(Disturbed.done.items()))
        print(f"random faults: seed {seed}; {told}", file=sys.stderr)

    program.run_tests(parser, begin, end)


if __name__ == "__main__":
    main()
