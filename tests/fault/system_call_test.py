#!/usr/bin/env python3
"""A save whose system calls fail, or which is killed at any call, leaves complete checkpoints, the
old ones or the new ones, and one line says what happened.

    python3 system_call_test.py --program build/ptb_dist --driver build/save_driver [--every N]
                                [unittest's arguments]

--every N takes each Nth fault. The last line has the number of faults. Needs the
right strace (support/rights.py).
"""

import argparse
import contextlib
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from disturbed_save import (all_faults, calls_in, calls_of_save, fail, inject, kill, reason,
                            under_strace)

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "program"), str(TESTS / "support")]
import program  # noqa: E402
import resume_test  # noqa: E402
import rights  # noqa: E402

IO, KILLED = 74, 137
HOST = os.uname().nodename
MIB = 1 << 20  # bytes of one write
CUT = 100_000  # bytes of one that a limit cuts short
# A checkpoint of 1.2 MB: two writes.
MODEL = ["--data", "synthetic", "--synthetic-tokens", "20000", "--synthetic-vocab", "300",
         "--vocab-size", "300", "--hidden-size", "120", "--num-steps", "7", "--threads", "1",
         "--max-windows", "40", "--checkpoint-windows", "10", "--keep-checkpoints", "4"]
OLDEST, OLDER, NEWEST, NEW = (f"g0000-step-000000{step}.h5" for step in (10, 20, 30, 40))
BEST = "best.h5"
KEPT = 2
STALE = f".{BEST}.tmp.{HOST}.2147483647"  # no process has such a number


def temporary(name):
    return f".{name}.tmp.{HOST}.$$"


class Tally:
    injected = passed = 0


class Injecting:
    """What both kinds of test share: each fault is a subtest, and counts."""

    every = 1

    def chosen(self, faults):
        return list(faults)[::self.every]

    @contextlib.contextmanager
    def fault(self, name):
        Tally.injected += 1
        with self.subTest(name):
            yield
            Tally.passed += 1

    def assert_one_line(self, errors, subject, reason):
        named = re.escape(f"{subject}: {reason}")
        self.assertRegex(errors, rf"\Aptb_dist: error: [^:\n]+: {named}( \(.*\))?; .+\n\Z")


class Save(Injecting, program.TestCase):
    """One save, alone in a process."""

    driver = None

    @classmethod
    def setUpClass(cls):
        rights.require("strace")
        cls.made = tempfile.TemporaryDirectory(prefix="ptb_dist_save_")
        cls.addClassCleanup(cls.made.cleanup)
        program.train(MODEL, cls.made.name, cls.program)
        folder = pathlib.Path(cls.made.name, "checkpoints")
        files = [folder / name for name in (OLDEST, OLDER, NEWEST, NEW)]
        verified = program.run(["checkpoint", "verify", *map(str, files)], cls.program)
        if verified.status != 0:
            raise RuntimeError(verified.err)
        oldest, older, newest, new = (path.read_bytes() for path in files)
        cls.new_file = files[-1]
        cls.old = {OLDEST: oldest, OLDER: older, NEWEST: newest, BEST: older}
        cls.new = {NEWEST: newest, NEW: new, BEST: new}

    def setUp(self):
        super().setUp()
        self.run_dir = self.scratch.resolve() / "run"
        self.folder = self.run_dir / "checkpoints"
        self.log = self.scratch / "calls"

    def put_old(self):
        shutil.rmtree(self.run_dir, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for name, content in self.old.items():
            (self.folder / name).write_bytes(content)
        (self.folder / STALE).write_bytes(b"half of a ")

    def save_command(self):
        return [self.driver, self.run_dir, "40", self.new_file, str(KEPT)]

    def save(self):
        return subprocess.run(self.save_command(), text=True, capture_output=True, timeout=50)

    def disturbed(self, options=()):
        """The save under strace: what to run."""
        names = [OLDEST, OLDER, NEW, BEST, STALE, temporary(NEW), temporary(BEST)]
        logs = [self.run_dir / name for name in ("log.txt", "metrics.jsonl")]
        paths = [self.run_dir, self.folder, *logs, *(self.folder / name for name in names)]
        return under_strace(self.save_command(), self.log, paths, options)

    def disturbed_save(self, options=()):
        ended = subprocess.run(self.disturbed(options), text=True, capture_output=True, timeout=50)
        self.wait_for_strace()
        return ended

    def wait_for_strace(self):
        """It is not the parent of what it traces, and writes its last line a little later."""
        self.wait_until(lambda: re.search(r"(?m)^\d+ +\+\+\+ ", self.log.read_text()))

    def wait_until(self, is_so):
        deadline = time.monotonic() + 20
        while not is_so():
            self.assertLess(time.monotonic(), deadline, "it takes too long")
            time.sleep(0.002)

    def undisturbed_calls(self):
        self.put_old()
        ended = self.disturbed_save()
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assert_folder_is_new()
        return calls_of_save(self.log, self.run_dir)

    # --- what is in the folder ---

    def contents(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def assert_folder_is_new(self):
        found = self.contents()
        self.assertEqual(sorted(found), sorted(self.new))
        for name, content in found.items():
            self.assertTrue(content == self.new[name], name)

    def assert_old_or_new(self):
        """Every file complete; what is newer has come before anything older went. Returns the
        names of temporary files."""
        found = self.contents()
        temporaries = {name for name in found if ".tmp." in name}
        is_new = {}
        for name in found.keys() - temporaries:
            self.assertIn(found[name], (self.old.get(name), self.new.get(name)), name)
            is_new[name] = found[name] == self.new.get(name)
        self.assertIn(NEWEST, found)
        self.assertIn(BEST, found)
        if is_new[BEST] or OLDEST not in found or OLDER not in found:
            self.assertIn(NEW, found)
        if OLDEST not in found or OLDER not in found:
            self.assertTrue(is_new[BEST])
            self.assertNotIn(OLDEST, found)
        return temporaries

    # --- tests ---

    def test_every_fault_at_every_call(self):
        calls = self.undisturbed_calls()
        # A power cut asks for this order; no fault of one call would tell another.
        names = " ".join(call.name for call in calls)
        durable = re.findall(r"openat write write fsync close rename\w* openat fsync", names)
        self.assertEqual(len(durable), 2, names)
        for fault in self.chosen(all_faults(calls)):
            with self.fault(fault.name):
                self.put_old()
                ended = self.disturbed_save(fault.injected)
                self.assert_was_injected(fault)
                self.assert_survived(fault, ended)
                again = self.save()
                self.assertEqual((again.returncode, again.stderr), (0, ""))
                self.assert_folder_is_new()

    def assert_was_injected(self, fault):
        *_, last = calls = list(calls_in(self.log))
        injected = last
        if fault.error:
            injected = next(call for call in calls if call[2].endswith("(INJECTED)"))
        self.assertEqual(injected[:2], (fault.met[0].name, fault.met[0].number))

    def assert_survived(self, fault, ended):
        temporaries = self.assert_old_or_new()
        own = temporaries - {STALE}
        if not fault.error:
            self.assertEqual(ended.returncode, -signal.SIGKILL)
            self.assertLessEqual(len(own), 1)
        elif not fault.subject:
            self.assertEqual((ended.returncode, ended.stderr), (0, ""))
            self.assertEqual(self.contents().keys() - {STALE}, self.new.keys())
        else:
            self.assertEqual(ended.returncode, IO, ended.stderr)
            self.assert_one_line(ended.stderr, fault.subject, reason(fault.error))
            can_remove = not any(call.name.startswith("unlink") for call in fault.met)
            self.assertTrue(not own or not can_remove, own)

    def test_short_writes(self):
        """Of the first file, where a limit on its size cuts a write short. (strace cannot make one:
        it would leave out the write and tell a number.)"""
        for number in (1, 2):
            limit = (number - 1) * MIB + CUT
            self.assertLess(limit, len(self.new[NEW]))
            with self.fault(f"write {number} is short, the rest is taken"):
                self.put_old()
                ended = self.save_over_a_lifted_limit(number, limit)
                self.assertEqual((ended.returncode, ended.stderr), (0, ""))
                self.assertRegex(self.log.read_text(), rf"(?m)write\(.* = {CUT}$")
                self.assert_folder_is_new()
            with self.fault(f"write {number} is short, the rest is refused"):
                self.put_old()
                ended = subprocess.run(["prlimit", f"--fsize={limit}", *self.save_command()],
                                       text=True, capture_output=True, timeout=50)
                self.assertEqual(ended.returncode, IO, ended.stderr)
                self.assert_one_line(ended.stderr, str(self.folder / NEW), reason("EFBIG"))
                self.assertEqual(self.assert_old_or_new(), set())

    def save_over_a_lifted_limit(self, number, limit):
        """The save is stopped after the write that meets the limit, and goes on without it."""
        command = self.disturbed(inject("write", "signal=STOP", number))
        process = subprocess.Popen(["prlimit", f"--fsize={limit}:", *command], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        written = self.folder / temporary(NEW).replace("$$", str(process.pid))
        self.wait_until(lambda: process.poll() is not None or
                        written.exists() and written.stat().st_size >= limit)
        if process.poll() is None:
            _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
        while process.poll() is None:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.01)
        out, err = process.communicate()
        self.wait_for_strace()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class WholeProgram(Injecting, resume_test.ResumeTestCase):
    """Rank 0 of three meets a fault in a save in the middle of a run, which then goes on."""

    STEP = 60
    FAULTS = [(fail, "write", "ENOSPC"), (kill, "rename"), (fail, "fsync", "EIO"), (kill, "write"),
              (fail, "openat", "EROFS"), (fail, "close", "EIO"), (fail, "rename", "EDQUOT"),
              (kill, "fsync"), (fail, "write", "EINTR")]

    def test_faults(self):
        rights.require("strace")
        for make, *of in self.chosen(self.FAULTS):
            with self.fault(f"{make.__name__} {of} in rank 0"):
                shutil.rmtree(self.scratch / "run", ignore_errors=True)
                self.one_fault(make(*of, 1), *of[1:])

    def one_fault(self, options, error=None):
        """Without an error it is a kill."""
        run_dir, log = self.scratch / "run", self.scratch / "calls"
        target = run_dir.resolve() / f"checkpoints/g0000-step-{self.STEP:08}.h5"
        arguments = [*resume_test.RUN, "--run-dir", str(run_dir)]
        rank_0 = under_strace([self.program, *arguments], log,
                              [target, target.with_name(temporary(target.name))],
                              options)
        launcher, *flags = shlex.split(self.mpirun)
        ended = program.run([*flags, "-np", "1", *rank_0, ":", "-np", "2", str(self.program),
                             *arguments], launcher)
        status = {None: KILLED, "EINTR": 0}.get(error, IO)
        self.assertEqual((ended.status, ended.survivors), (status, []), ended.out + ended.err)
        errors = re.findall(r"(?m)^ptb_dist: error: .*\n", ended.err)
        self.assertEqual(len(errors), status == IO, ended.err)
        if status == IO:
            self.assert_one_line(errors[0], str(target), reason(error))
        self.assertRegex(log.read_text(), r"\(INJECTED\)|killed by SIGKILL")
        if status != 0:
            self.assertEqual(sorted(program.checkpoints(run_dir)), [20, 40])
            self.go(run_dir, "--resume", "auto")
        self.assert_same_run(run_dir)


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--driver", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--every", type=int, default=1)

    def begin(args):
        Save.driver, Injecting.every = args.driver, args.every

    def end():
        print(f"system calls: {Tally.injected} faults injected, {Tally.passed} survived as "
              "promised", file=sys.stderr)

    program.run_tests(parser, begin, end)


if __name__ == "__main__":
    main()
