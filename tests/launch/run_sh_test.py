#!/usr/bin/env python3
"""launch/run.sh, with a stand-in for mpirun that ends as a test asks: when run.sh starts again,
when it does not, and what it does with signals.

    python3 run_sh_test.py [unittest's arguments]
"""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from launch_test import PROJECT, environment, run_at_a_terminal

# Each attempt carries out its part of the plan, a list of [what, value].
MPIRUN = r"""#!/usr/bin/env python3
import json, os, pathlib, signal, sys, time

scratch = pathlib.Path(__file__).resolve().parent.parent
log = scratch / "log"
attempt = len(log.read_text().split("start")) - 1 if log.exists() else 0
run_dir = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
signals = []

def tell(*words):
    with open(log, "a") as file:
        file.write(json.dumps(words) + "\n")

def note(number, frame):
    signals.append(signal.Signals(number).name)
    tell(signals[-1])

for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2,
               signal.SIGXCPU):
    signal.signal(number, note)
plan = json.loads((scratch / "plan").read_text())[attempt]
tell("start", *sys.argv[1:])
for what, value in plan:
    if what == "step":
        folder = run_dir / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"g{attempt:04}-step-{value:08}.h5").touch()
    elif what == "remove":
        for path in (run_dir / "checkpoints").iterdir():
            path.unlink()
    elif what == "move":
        (run_dir / "checkpoints").rename(run_dir / "old-1")
    elif what == "state":
        (run_dir / ".attempt").write_text(f"{os.environ['PTB_DIST_ATTEMPT']} generation=0 host=h"
                                          f" pid=1 since=now state={value[0]} code={value[1]}\n")
    elif what == "until":
        while value not in signals:
            time.sleep(0.01)
    elif what == "signals":
        while len(signals) < value:
            time.sleep(0.01)
    elif what == "raise":
        if value != signal.SIGKILL:
            signal.signal(value, signal.SIG_DFL)
        os.kill(os.getpid(), value)
    elif what == "exit":
        os._exit(value)  # at once: without its handlers it would die of a reminder
"""


class RunTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ptb_dist_run_")
        self.addCleanup(folder.cleanup)
        self.scratch = pathlib.Path(folder.name).resolve()
        self.launch = self.scratch / "project/launch"
        self.launch.mkdir(parents=True)
        for name in ("common.sh", "run.sh"):
            shutil.copy(PROJECT / "launch" / name, self.launch)
        self.program = self.put_program("project/build/ptb_dist", "#!/bin/sh\n")
        self.put_program("tools/mpirun", MPIRUN)
        self.run_dir = self.scratch / "runs/a"

    def put_program(self, name, text):
        path = self.scratch / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def put_checkpoint(self, step):
        folder = self.run_dir / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"g0000-step-{step:08}.h5").touch()

    def begin(self, plan, *arguments):
        """run.sh under way, with `plan`: of each attempt, what it does."""
        (self.scratch / "plan").write_text(json.dumps(plan))
        command = [self.launch / "run.sh", *map(str, arguments)]
        process = subprocess.Popen(
            command, text=True, cwd=self.scratch, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env=environment({"PATH": f"{self.scratch}/tools:{os.environ['PATH']}"}))
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        return process

    def end(self, process):
        """(status, all that it says)"""
        text = process.communicate(timeout=50)[0]
        return process.returncode, text

    def go(self, plan, *arguments):
        return self.end(self.begin(plan, "--run-dir", self.run_dir, "--restart-pause", 0,
                                   *arguments))

    def log(self):
        path = self.scratch / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def attempts(self):
        """What each was started with."""
        return [line[1:] for line in self.log() if line[0] == "start"]

    def wait_for(self, condition):
        deadline = time.monotonic() + 40
        while not condition():
            self.assertLess(time.monotonic(), deadline, self.log())
            time.sleep(0.01)


class Restarts(RunTest):
    def test_the_command(self):
        status, text = self.go([[["exit", 0]]], "--np", "3", "--config=small", "--epochs", "2")
        self.assertEqual(status, 0, text)
        self.assertEqual(self.attempts(), [
            ["-np", "3", "--bind-to", "none", "--oversubscribe", str(self.program), "--run-dir",
             str(self.run_dir), "--resume", "auto", "--config=small", "--epochs", "2"]])
        self.assertIn(f"run.sh: done in {self.run_dir} (restarts: 0)\n", text)

    def test_at_a_terminal_it_asks_for_the_bar(self):
        (self.scratch / "plan").write_text(json.dumps([[["exit", 0]]]))
        status, text = run_at_a_terminal(
            self.launch / "run.sh", "--run-dir", self.run_dir, "--progress", "lines",
            PATH=f"{self.scratch}/tools:{os.environ['PATH']}")
        self.assertEqual(status, 0, text)
        # The user's own word comes last and counts.
        self.assertEqual(self.attempts()[0][-4:], ["--progress", "bar", "--progress", "lines"])

    def test_a_run_directory_of_its_own(self):
        status, text = self.end(self.begin([[["exit", 0]]]))
        self.assertEqual(status, 0, text)
        attempt = self.attempts()[0]
        self.assertRegex(attempt[attempt.index("--run-dir") + 1], r"^runs/run-\d{8}-\d{6}$")
        self.assertIn(attempt[attempt.index("--run-dir") + 1], text)

    def test_failures_that_may_pass(self):
        for ending in (["exit", 1], ["exit", 15], ["exit", 70], ["exit", 75], ["exit", 137],
                       ["exit", 205], ["raise", 9], ["raise", 15]):
            with self.subTest(ending):
                (self.scratch / "log").unlink(missing_ok=True)
                status, text = self.go([[ending], [["exit", 0]]])
                self.assertEqual(status, 0, text)
                self.assertEqual(len(self.attempts()), 2)
                code = ending[1] if ending[0] == "exit" else 128 + ending[1]
                self.assertIn(f"run.sh: attempt 1 ended with {code}: restart 1 of at most 100 in 0"
                              " s, from the beginning\n", text)
                self.assertTrue(all(line.startswith("run.sh: ") for line in text.splitlines()))

    def test_failures_that_do_not_pass(self):
        for code in (2, 65, 69, 74, 76):
            with self.subTest(code):
                (self.scratch / "log").unlink(missing_ok=True)
                status, text = self.go([[["exit", code]]])
                self.assertEqual(status, code)
                self.assertIn(f"attempt 1 ended with {code}: a restart would not help", text)

    def test_no_more_restarts_than_allowed(self):
        plan = [[["step", step], ["exit", 70]] for step in (1, 2, 3, 4)]
        status, text = self.go(plan, "--max-restarts", 2)
        self.assertEqual(status, 70)
        self.assertEqual(len(self.attempts()), 3)
        self.assertIn("giving up: --max-restarts 2", text.splitlines()[-1])

    def check_gives_up(self, steps, attempts, *arguments):
        plan = [[["step", step]] * (step > 0) + [["exit", 137]] for step in steps]
        status, text = self.go(plan, *arguments)
        self.assertEqual(status, 137, text)
        self.assertEqual(len(self.attempts()), attempts, text)
        return text.splitlines()[-1]

    def test_it_gives_up_without_a_checkpoint(self):
        last = self.check_gives_up([0] * 9, 4)
        self.assertIn("giving up: --max-no-progress-restarts 3 without a newer checkpoint than the"
                      " beginning", last)

    def test_it_gives_up_where_a_checkpoint_stays_the_newest(self):
        last = self.check_gives_up([8, 0, 9, 0, 8, 0, 0], 5, "--max-no-progress-restarts=2")
        self.assertIn("giving up: --max-no-progress-restarts 2 without a newer checkpoint than step"
                      " 9", last)

    def test_an_older_checkpoint_is_no_progress(self):
        plan = [[["step", 9], ["exit", 70]]] + [[["remove", 0], ["step", 5], ["exit", 70]]] * 2
        status, text = self.go(plan, "--max-no-progress-restarts", 1)
        self.assertEqual(status, 70, text)
        self.assertEqual(len(self.attempts()), 2, text)

    def test_it_gives_up_on_a_run_that_was_there(self):
        self.put_checkpoint(500)
        self.check_gives_up([0] * 9, 1, "--max-no-progress-restarts", 0)

    def test_faults_are_injected_once(self):
        plan = [[["step", 1], ["raise", 9]], [["exit", 0]]]
        status, text = self.go(plan, "--inject", "kill@1:5", "--inject=nan@0:7", "--seed", "3")
        self.assertEqual(status, 0, text)
        first, second = self.attempts()
        self.assertEqual(first[-6:], ["--seed", "3", "--inject", "kill@1:5", "--inject",
                                      "nan@0:7"])
        self.assertEqual(second[-4:], ["--resume", "auto", "--seed", "3"])

    def test_a_fresh_start_is_one(self):
        status, text = self.go([[["step", 1], ["exit", 137]], [["exit", 0]]], "--fresh")
        self.assertEqual(status, 0, text)
        first, second = self.attempts()
        self.assertEqual(first[-1], "--fresh")
        self.assertNotIn("--resume", first)
        self.assertEqual(second[-2:], ["--resume", "auto"])

    def test_an_attempt_that_died_before_its_fresh_start_does_not_revive_the_old_run(self):
        self.put_checkpoint(500)
        plan = [[["exit", 137]], [["move", 0], ["step", 1], ["exit", 137]], [["exit", 0]]]
        status, text = self.go(plan, "--fresh")
        self.assertEqual(status, 0, text)
        self.assertEqual(["--fresh" in attempt for attempt in self.attempts()],
                         [True, True, False])

    def test_it_waits_until_the_last_attempt_has_left_the_run_directory(self):
        self.run_dir.mkdir(parents=True)
        with open(self.run_dir / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = self.begin([[["exit", 137]], [["exit", 0]]], "--run-dir", self.run_dir,
                                 "--restart-pause", 0)
            self.wait_for(lambda: len(self.attempts()) == 1)
            time.sleep(0.5)
            self.assertEqual(len(self.attempts()), 1)
        self.assertEqual(self.end(process)[0], 0)
        self.assertEqual(len(self.attempts()), 2)


class Signals(RunTest):
    def begin_waiting(self, plan, *arguments):
        process = self.begin(plan, "--run-dir", self.run_dir, "--restart-pause", 0, *arguments)
        self.wait_for(self.attempts)
        return process

    def signals(self):
        return [line[0] for line in self.log() if line[0] != "start"]

    def test_a_stop_saves_and_ends(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2,
                       signal.SIGXCPU):
            with self.subTest(number.name):
                (self.scratch / "log").unlink(missing_ok=True)
                process = self.begin_waiting([[["until", "SIGUSR1"], ["step", 7], ["exit", 75]]])
                os.killpg(process.pid, number)  # as a terminal does
                status, text = self.end(process)
                self.assertEqual(status, 75, text)
                self.assertEqual(len(self.attempts()), 1)
                self.assertEqual(set(self.signals()), {"SIGUSR1"})
                self.assertIn(f"run.sh: {number.name}: asking the run to save and to stop", text)
                self.assertNotIn("restart", text)

    def test_the_second_ends_at_once(self):
        process = self.begin_waiting([[["until", "SIGUSR1"], ["until", "SIGTERM"], ["exit", 1]]])
        process.send_signal(signal.SIGINT)
        self.wait_for(self.signals)
        process.send_signal(signal.SIGINT)
        status, text = self.end(process)
        self.assertEqual(status, 130, text)
        self.assertEqual(set(self.signals()), {"SIGUSR1", "SIGTERM"})
        self.assertEqual(len(self.attempts()), 1)

    def test_it_is_asked_again_until_it_has_ended(self):
        """mpirun may lose a signal while it starts its ranks."""
        process = self.begin_waiting([[["signals", 2], ["exit", 75]]])
        process.send_signal(signal.SIGTERM)
        status, text = self.end(process)
        self.assertEqual(status, 75, text)
        self.assertGreaterEqual(len(self.signals()), 2)

    def test_a_stop_before_anybody_can_be_asked(self):
        process = self.begin_waiting([[["until", "SIGUSR1"], ["raise", signal.SIGUSR1]]])
        process.send_signal(signal.SIGTERM)
        status, text = self.end(process)
        self.assertEqual(status, 75, text)
        self.assertEqual(len(self.attempts()), 1)

    def test_a_run_that_is_done_all_the_same_is_done(self):
        process = self.begin_waiting([[["until", "SIGUSR1"], ["exit", 0]]])
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process)[0], 0)

    def test_usr1_saves_and_starts_again(self):
        process = self.begin_waiting([[["until", "SIGUSR1"], ["exit", 75]], [["exit", 0]]])
        process.send_signal(signal.SIGUSR1)
        status, text = self.end(process)
        self.assertEqual(status, 0, text)
        self.assertEqual(len(self.attempts()), 2)

    def test_the_code_is_right_after_many_signals(self):
        process = self.begin_waiting([[["signals", 5], ["exit", 76]]])
        for count in range(1, 6):
            process.send_signal(signal.SIGUSR1)
            self.wait_for(lambda: len(self.signals()) >= count)
        self.assertEqual(self.end(process)[0], 76)

    def test_a_stop_during_the_pause(self):
        process = self.begin([[["exit", 137]]], "--run-dir", self.run_dir, "--restart-pause", 40)
        self.wait_for(self.attempts)
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status, text = self.end(process)
        self.assertEqual(status, 137, text)
        self.assertLess(time.monotonic() - began, 20)
        self.assertIn("stopped on request", text.splitlines()[-1])


class Usage(RunTest):
    def test_what_cannot_be_started(self):
        for code, arguments in ((2, ["--np", "0"]), (2, ["--np", "two"]), (2, ["--np"]),
                                (2, ["--max-restarts=-1"]), (2, ["--resume", "auto"]),
                                (2, ["--resume=x.h5"]), (69, ["--program", "/nowhere"])):
            with self.subTest(arguments):
                status, text = self.end(self.begin([], *arguments))
                self.assertEqual(status, code, text)
                self.assertEqual(len(text.splitlines()), 1, text)
                self.assertTrue(text.startswith("run.sh: error: "), text)
        self.assertEqual(self.attempts(), [])

    def test_another_program(self):
        other = self.put_program("tools/other", "")
        status, text = self.go([[["exit", 0]]], "--program", other)
        self.assertEqual(status, 0, text)
        self.assertIn(str(other), self.attempts()[0])


if __name__ == "__main__":
    unittest.main()
