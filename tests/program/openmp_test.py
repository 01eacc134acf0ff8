#!/usr/bin/env python3
"""OpenMP's environment variables change neither the numbers of a run nor its cores."""

import contextlib
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import unittest

from program import SMALL_MODEL, TestCase, checkpoints, processes_of_session, run, run_tests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import rights  # noqa: E402

RUN = [*SMALL_MODEL, "--max-windows", "12"]
TWO = [*RUN, "--threads", "2"]

# Alone, each of them made another checkpoint or ended the program when libgomp read it, or is to
# show that the next library may be as strict.
WITHOUT_EFFECT = [
    ("OMP_THREAD_LIMIT", "1"), ("OMP_MAX_ACTIVE_LEVELS", "0"), ("OMP_DYNAMIC", "true"),
    ("OMP_NESTED", "true"), ("OMP_PROC_BIND", "true"), ("OMP_PLACES", "{0}"),
    ("GOMP_CPU_AFFINITY", "0"), ("OMP_STACKSIZE", "16k"), ("GOMP_STACKSIZE", "16"),
    ("OMP_STACKSIZE", "1000G"), ("KMP_DEVICE_THREAD_LIMIT", "1")]
# Followed, or of no interest: they stay in the environment.
LEFT_ALONE = [
    {"OMP_NUM_THREADS": "1", "OMP_SCHEDULE": "dynamic", "OMP_CANCELLATION": "true",
     "OMP_NUM_TEAMS": "1", "OMP_TEAMS_THREAD_LIMIT": "1", "OMP_WAIT_POLICY": "passive"},
    {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "7", "DNNL_DEFAULT_FPMATH_MODE": "ANY"}]

# Another user, of whom no process is there, with a limit of threads; for root to start.
AS_A_LIMITED_USER = f"""
import os, resource, sys
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
os.setgroups([])
os.setresgid(*[{rights.FRESH_USER}] * 3)
os.setresuid(*[{rights.FRESH_USER}] * 3)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Settings(TestCase):
    def run_of(self, arguments, changes):
        """A run that must succeed: its checkpoint, the threads of its exact class, its log."""
        self.runs += 1
        run_dir = self.scratch / f"run{self.runs}"
        ended = self.run_program([*arguments, "--run-dir", str(run_dir)], changes=changes)
        self.assertEqual(ended.status, 0, ended.err)
        manifest = json.loads((run_dir / "manifest.json").read_text())
        threads = manifest["attempts"][-1]["exact_class"]["threads"]
        return checkpoints(run_dir)[12].read_bytes(), threads, (run_dir / "log.txt").read_text()

    def test_no_setting_changes_the_numbers_of_two_threads(self):
        expected, threads, log = self.run_of(TWO, {})
        self.assertEqual(threads, "2")
        self.assertNotIn("without effect here", log)
        one, _, _ = self.run_of(RUN, {})
        self.assertNotEqual(expected, one)  # so a team of one would be seen
        for name, value in WITHOUT_EFFECT:
            with self.subTest(setting=f"{name}={value}"):
                found, threads, log = self.run_of(TWO, {name: value})
                self.assertEqual((threads, found == expected), ("2", True))
                self.assertIn(f"without effect here: {name}={value};", log)
        for settings in LEFT_ALONE:
            with self.subTest(settings=settings):
                found, threads, log = self.run_of(TWO, settings)
                self.assertEqual((threads, found == expected), ("2", True))
                self.assertNotIn("without effect here", log)

    def test_as_many_threads_as_without_it(self):
        automatic = [*RUN, "--threads", "0"]
        _, expected, _ = self.run_of(automatic, {})
        for settings in ({"OMP_PROC_BIND": "close"}, {"OMP_PLACES": "{0}"},
                         {"OMP_THREAD_LIMIT": "1"}):
            with self.subTest(**settings):
                self.assertEqual(self.run_of(automatic, settings)[1], expected)

    def test_other_settings_of_threads_are_answered(self):
        _, _, log = self.run_of(RUN + ["--threads", "0"], {"MKL_NUM_THREADS": "777"})
        self.assertIn("without effect here: MKL_NUM_THREADS=777; rank 0 has ", log)
        _, _, log = self.run_of(RUN, {"SLURM_CPUS_PER_TASK": "777"})
        self.assertIn("--map-by slot:pe=777", log)


class Cores(TestCase):
    def test_ranks_that_are_not_bound_may_use_all_cores(self):
        run_dir = self.scratch / "run"
        process = self.start_program([*TWO, "--max-windows", "1000000", "--epochs", "10000",
                                      "--run-dir", str(run_dir)], ranks=2,
                                     changes={"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"})
        try:
            deadline = time.monotonic() + 45
            while not (run_dir / "metrics.jsonl").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            ranks = [pid for pid in processes_of_session(process.pid)
                     if pathlib.Path(f"/proc/{pid}/exe").resolve() == self.program]
            self.assertEqual(len(ranks), 2)
            all_cores = os.sched_getaffinity(0)
            for pid in ranks:
                for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
                    self.assertEqual(os.sched_getaffinity(int(thread.name)), all_cores)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            for pid in processes_of_session(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.communicate()

    def test_more_threads_than_cores_are_told(self):
        one_core = ["--dry-run", *RUN]
        core = min(os.sched_getaffinity(0))
        bound = self.each_rank(f"set -- taskset -c {core} {self.program} \"$@\"",
                               binary="/usr/bin/env")
        ended = run(one_core, bound, ranks=2, mpirun=self.mpirun, cwd=self.scratch)
        self.assertEqual(ended.status, 0, ended.err)
        self.assertRegex(ended.out,
                         r"(?m)^warning: .*: 2 ranks with 2 threads together share 1 core: ")
        too_many = self.run_program([*one_core, "--threads", "500"])
        self.assertRegex(too_many.out, r"(?m)^warning: .*: a rank has 500 threads on ")


def wait_until_gone(user):
    """Open MPI's daemon outlives its only process by a moment, and counts for the limit."""
    deadline = time.monotonic() + 30
    while user in owners_of_processes():
        if time.monotonic() > deadline:
            raise RuntimeError(f"user {user} still has processes")
        time.sleep(0.02)


def owners_of_processes():
    owners = set()
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            owners.add(folder.stat().st_uid)
    return owners


class Limits(unittest.TestCase):
    def dry_run(self, most, threads):
        """As a user who may have `most` processes and threads."""
        rights.require("fresh_user")
        wait_until_gone(rights.FRESH_USER)
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            return run(["-c", AS_A_LIMITED_USER, str(most), str(TestCase.program), *RUN,
                        "--dry-run", "--threads", str(threads)], sys.executable, cwd=folder,
                       changes={"TMPDIR": folder, "HOME": folder})

    def test_threads_that_the_system_does_not_start(self):
        ended = self.dry_run(40, threads=64)
        self.assertEqual(ended.status, 69, ended.err)
        self.assertRegex(ended.err,
                         r"(?m)^ptb_dist: error: too few threads: --threads 64: \d+ of 64 could be "
                         r"started; at most 40 processes and threads of this user \(ulimit -u\).*; "
                         r"raise the limit, or use --threads \d+$")
        advised = int(ended.err.split()[-1])
        self.assertEqual(self.dry_run(40, threads=advised).status, 0)

    @unittest.skipUnless(len(os.sched_getaffinity(0)) > 1, "one core")
    def test_fewer_threads_are_taken_where_none_were_asked_for(self):
        for most in range(4, 40):
            ended = self.dry_run(most, threads=0)
            if ended.status == 0:
                break
            self.assertEqual(ended.status, 69, ended.err)
        self.assertIn(", 1 thread a rank", ended.out)
        self.assertRegex(ended.out,
                         r"(?m)^warning: rank 0 \(.*\) has fewer threads than cores: 1 of \d+ "
                         r"could be started; at most \d+ processes and threads of this user "
                         r"\(ulimit -u\)")


if __name__ == "__main__":
    run_tests()
