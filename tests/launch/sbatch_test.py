#!/usr/bin/env python3
"""launch/ptb_dist.sbatch, with stand-ins for srun, mpirun and scontrol: what it starts, when it
requeues the job, and when not. On a real Slurm it is tests/slurm that tries it.

    python3 sbatch_test.py [unittest's arguments]
"""

import json
import os
import re
import shutil
import signal
import subprocess
import unittest

from launch_test import PROJECT, environment
from run_sh_test import MPIRUN, RunTest

JOB = "17"
# What the test has put into `answer` is said of the job; a request to requeue is written down.
SCONTROL = """#!/bin/sh
cd "${0%/*}/.."
case "$*" in
  requeue*) echo "$*" >>requeued; test ! -e cannot_requeue ;;
  *) test ! -e hangs || exec sleep 1000
     test ! -e cancelled || kill -TERM $(cat cancelled)
     test -s answer && cat answer ;;
esac
"""
# As said by the program, and what a launcher ends with.
FINISHED = [["step", 9], ["state", ["finished", 0]], ["exit", 0]]
FAILED = [["step", 5], ["state", ["failed", 70]], ["exit", 70]]


class SbatchTest(RunTest):
    def setUp(self):
        super().setUp()
        script = (PROJECT / "launch/ptb_dist.sbatch").read_text()
        for name, value in (("kAnswer", 1), ("kTries", 2), ("kPause", 0), ("kRemind", 0.1),
                            ("kLook", 0.1), ("kPatience", 0)):
            script, count = re.subn(rf"\b{name}=\d+", f"{name}={value}", script)
            self.assertEqual(count, 1, name)
        self.script = self.put_program("spool/slurm_script", script)  # as sbatch does
        self.put_program("tools/srun", MPIRUN)
        self.put_program("tools/scontrol", SCONTROL)
        self.program = self.put_program("build/ptb_dist", "#!/bin/sh\n")
        self.run_dir = self.scratch / f"runs/small-{JOB}"
        self.answers()

    def answers(self, restarts=0, host="node1", end="2030-01-01T00:00:00"):
        (self.scratch / "answer").write_text(
            f"JobId={JOB} JobName=ptb_dist Restarts={restarts} EndTime={end} BatchHost={host}\n")

    def forget(self, *names):
        """What earlier jobs of this test have left; all of them have one number."""
        for name in names or ("log", "requeued"):
            (self.scratch / name).unlink(missing_ok=True)
        for path in self.scratch.rglob(".attempt"):
            path.unlink()

    def begin(self, plan, *arguments, restarts=0, **changes):
        (self.scratch / "plan").write_text(json.dumps(plan))
        if restarts:
            changes["SLURM_RESTART_COUNT"] = str(restarts)
        process = subprocess.Popen(
            [self.script, *map(str, arguments)], text=True, cwd=self.scratch,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment({"PATH": f"{self.scratch}/tools:{os.environ['PATH']}",
                             "SLURM_JOB_ID": JOB, "SLURM_JOB_NODELIST": "node[1-2]",
                             "SLURM_NTASKS": "4", "SLURMD_NODENAME": "node1", **changes}))
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        return process

    def go(self, plan, *arguments, **how):
        return self.end(self.begin(plan, *arguments, **how))

    def requeued(self):
        path = self.scratch / "requeued"
        return path.read_text().splitlines() if path.exists() else []

    def check_requeued(self, text=""):
        self.assertEqual(self.requeued(), [f"requeue {JOB}"], text)

    def check_not_requeued(self, text=""):
        self.assertEqual(self.requeued(), [], text)


class Launches(SbatchTest):
    def test_the_command_and_the_folder_of_the_job(self):
        status, text = self.go([FINISHED], "--epochs", "2")
        self.assertEqual(status, 0, text)
        self.assertEqual(self.attempts(), [
            ["--mpi=pmix", "--kill-on-bad-exit=1", "--export=ALL", "build/ptb_dist", "--run-dir",
             f"runs/small-{JOB}", "--resume", "auto", "--epochs", "2"]])
        self.assertIn(f"done: finished, in runs/small-{JOB}\n", text)
        for line in text.splitlines():
            self.assertRegex(line, rf"^ptb_dist.sbatch \[{JOB}\.0 node1 \d\d:\d\d:\d\d\]: ")
        self.check_not_requeued()

    def test_the_folder_has_the_name_of_the_configuration(self):
        for arguments, name in ((["--config", "large"], "large"), (["--config=my/own.toml"], "own"),
                                (["--config", "large", "--config", "test"], "test")):
            with self.subTest(arguments):
                self.forget("log")
                self.assertEqual(self.go([FINISHED], *arguments)[0], 0)
                attempt = self.attempts()[0]
                self.assertEqual(attempt[attempt.index("--run-dir") + 1], f"runs/{name}-{JOB}")
                self.assertIn(arguments[-1].split("=")[-1], attempt)

    def test_mpirun(self):
        status, text = self.go([FINISHED], "--launcher", "mpirun", "--run-dir=elsewhere")
        self.assertEqual(status, 0, text)
        self.assertEqual(self.attempts(), [
            ["--bind-to", "none", "-x", "PTB_DIST_ATTEMPT", "-x", "PTB_DIST_END_FILE",
             "build/ptb_dist", "--run-dir", "elsewhere", "--resume", "auto"]])

    def test_a_bundle_brings_its_own_mpirun(self):
        shutil.rmtree(self.scratch / "build")
        self.put_program("bin/ptb_dist", "#!/bin/sh\n")
        self.put_program("bin/mpirun", MPIRUN)
        (self.scratch / "tools/mpirun").unlink()
        status, text = self.go([FINISHED], "--launcher", "mpirun")
        self.assertEqual(status, 0, text)
        self.assertIn("launch: bin/mpirun --bind-to none", text)

    def test_the_environment_of_the_ranks(self):
        self.put_program("tools/srun", MPIRUN.replace('tell("start", *sys.argv[1:])', """
tell("start", *(f"{name}={os.environ.get(name)}" for name in (
    "OMPI_MCA_oob_tcp_keepalive_time", "OMPI_MCA_oob_tcp_keepalive_intvl",
    "OMPI_MCA_oob_tcp_keepalive_probes", "OMPI_MCA_btl_tcp_if_include",
    "OMPI_MCA_oob_tcp_if_include", "NCCL_SOCKET_IFNAME", "SRUN_CPUS_PER_TASK",
    "PTB_DIST_ATTEMPT")))"""))
        for number, (arguments, changes) in enumerate((
                (["--network", "eth7"], {"SLURM_CPUS_PER_TASK": "6"}),
                (["--network=10.1.0.0/16"], {}), ([], {})), 1):
            self.go([FINISHED] * number, "--run-dir", f"run{number}", *arguments, **changes)
        alive = [f"OMPI_MCA_oob_tcp_keepalive_{name}" for name in ("time=3", "intvl=1", "probes=3")]
        attempt = f"PTB_DIST_ATTEMPT={JOB}.0.0"
        names = ["OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include",
                 "NCCL_SOCKET_IFNAME", "SRUN_CPUS_PER_TASK"]
        self.assertEqual(self.attempts(), [
            [*alive, *(f"{n}={v}" for n, v in zip(names, values)), attempt]
            for values in (("eth7", "eth7", "=eth7", "6"),
                           ("10.1.0.0/16", "10.1.0.0/16", "None", "None"), ["None"] * 4)])

    def test_faults_are_injected_once(self):
        status, text = self.go([FAILED, FINISHED], "--inject", "kill@1:5", "--inject=nan@0:7")
        self.assertEqual(status, 70, text)
        self.assertEqual(self.attempts()[0][-4:], ["--inject", "kill@1:5", "--inject", "nan@0:7"])
        self.go([FAILED, FINISHED], "--inject", "kill@1:5", restarts=1)
        self.assertEqual(self.attempts()[1][-2:], ["--resume", "auto"])

    def test_one_task_is_told(self):
        self.assertIn("this job has one task", self.go([FINISHED], SLURM_NTASKS="1")[1])
        self.forget()
        text = self.go([FINISHED], SLURM_NTASKS="", SLURM_JOB_NUM_NODES="3")[1]
        self.assertIn("tasks: 3,", text)
        self.forget()
        self.assertNotIn("one task", self.go([FINISHED])[1])

    def test_the_program_learns_when_the_allocation_ends(self):
        self.put_program("tools/srun", MPIRUN.replace('plan = ', """
path = scratch / os.environ["PTB_DIST_END_FILE"]
while not path.exists():
    time.sleep(0.01)
tell("end", path.read_text().strip())
plan = """, 1))
        self.answers(end="2030-01-01T00:00:00")
        status, text = self.go([FINISHED], TZ="UTC")
        self.assertEqual(status, 0, text)
        self.assertIn(["end", str(1893456000 - 20)], self.log())
        self.assertEqual(list(self.run_dir.glob(".end*")), [])

    def test_the_end_of_an_earlier_allocation_does_not_count(self):
        self.put_program("tools/srun", MPIRUN.replace('plan = ', """
tell("end", (scratch / os.environ["PTB_DIST_END_FILE"]).exists())
plan = """, 1))
        self.run_dir.mkdir(parents=True)
        (self.run_dir / f".end-{JOB}").write_text("1000\n")
        self.answers(end="Unknown")
        self.assertEqual(self.go([FINISHED])[0], 0)
        self.assertIn(["end", False], self.log())

    def test_what_cannot_be_started(self):
        for code, arguments, told in (
                (2, ["--launcher", "ssh"], "--launcher ssh"), (2, ["--network"], "--network: "),
                (2, ["--resume", "auto"], "--resume"), (2, ["--resume=x.h5"], "--resume"),
                (2, ["--fresh"], "--fresh"), (69, ["--program", "/nowhere"], "/nowhere")):
            with self.subTest(arguments):
                status, text = self.go([], *arguments)
                self.assertEqual(status, code, text)
                self.assertEqual(len(text.splitlines()), 1, text)
                self.assertIn(f"error: {told}", text)
        self.assertEqual(self.attempts(), [])
        self.assertFalse((self.scratch / "runs").exists())

    def test_without_slurm(self):
        status, text = self.go([], SLURM_JOB_ID="")
        self.assertEqual(status, 2, text)
        self.assertIn("submit it: sbatch launch/ptb_dist.sbatch", text)


class Ends(SbatchTest):
    def test_ends_that_another_attempt_would_not_mend(self):
        for code in (2, 65, 69, 74, 76, 130):
            with self.subTest(code):
                self.forget("log")
                status, text = self.go([[["exit", code]]])
                self.assertEqual(status, code, text)
                self.assertEqual(len(self.attempts()), 1)
                self.assertIn("another attempt would not help", text)
        self.check_not_requeued()

    def test_failures_that_may_pass(self):
        for step, ending in enumerate((["exit", 1], ["exit", 70], ["exit", 75], ["exit", 137],
                                       ["exit", 205], ["raise", 9], ["raise", 11]), 1):
            with self.subTest(ending):
                self.forget()
                status, text = self.go([[["step", step], ["state", ["running", "-"]], ending]])
                self.assertEqual(status, ending[1] + 128 * (ending[0] == "raise"), text)
                self.assertEqual(len(self.attempts()), 1, text)
                self.check_requeued(text)

    def test_the_word_of_the_run_counts_more_than_that_of_the_launcher(self):
        for state, code, of_launcher, expected in (
                ("finished", 0, 205, 0), ("max_windows", 0, 1, 0), ("failed", 2, 1, 2),
                ("failed", 76, 143, 76)):
            with self.subTest(state):
                self.forget("log")
                status, text = self.go([[["state", [state, code]], ["exit", of_launcher]]])
                self.assertEqual(status, expected, text)
        self.check_not_requeued()

    def test_0_without_the_word_of_the_run_is_no_end(self):
        for state in ([], [["state", ["running", "-"]]]):
            with self.subTest(state):
                self.forget()
                status, text = self.go([[*state, ["exit", 0]]] * 2, "--run-dir", f"run{len(state)}")
                self.assertEqual(status, 70, text)
                self.check_requeued(text)

    def test_the_word_of_an_earlier_launch_is_not_this_ones(self):
        self.run_dir.mkdir(parents=True)
        for attempt in ("16.0.0", f"1{JOB}.0.0", f"{JOB}.0.0.0"):
            self.forget("log")
            (self.run_dir / ".attempt").write_text(f"{attempt} state=finished code=0\n")
            status, text = self.go([[["exit", 0]], [["exit", 2]]], "--run-dir", self.run_dir)
            self.assertEqual(status, 2, text)

    def test_ranks_that_were_not_started_are_started_once_more_in_the_allocation(self):
        status, text = self.go([[["exit", 137]], FINISHED])
        self.assertEqual(status, 0, text)
        self.assertEqual(len(self.attempts()), 2)
        self.assertIn("the ranks were not started: once more in this allocation", text)
        self.check_not_requeued()

    def test_not_more_often_than_nodes_may_have_crashed(self):
        for restarts in (0, 1, 2):
            with self.subTest(restarts):
                self.forget()
                self.answers(restarts=restarts)
                status, text = self.go([[["exit", 137]]] * 9, restarts=restarts)
                self.assertEqual(status, 137, text)
                self.assertEqual(len(self.attempts()), restarts + 2, text)
                self.assertEqual("giving up" in text, restarts == 2)
                self.assertEqual(len(self.requeued()), restarts < 2, text)

    def test_it_gives_up_after_three_attempts_without_progress(self):
        failure = [["state", ["running", "-"]], ["exit", 137]]
        for restarts, step in enumerate((7, 7, 9, 9, 9, 9)):
            self.answers(restarts=restarts)
            self.forget("log")
            status, text = self.go([[["step", step], *failure]], restarts=restarts)
            self.assertEqual(status, 137, text)
            self.assertEqual(len(self.requeued()), min(restarts + 1, 5), text)
        self.assertIn("giving up: 3 attempts without a newer checkpoint than step 9", text)

    def test_a_launcher_that_outlives_the_run_is_ended(self):
        status, text = self.go([[["state", ["finished", 0]], ["signals", 99]]])
        self.assertEqual(status, 0, text)
        self.assertIn("and srun did not: ending it", text)


class Requeues(SbatchTest):
    def test_not_by_the_script_of_an_attempt_that_is_no_longer_the_jobs(self):
        for restarts, host in ((1, "node1"), (0, "node2")):
            with self.subTest(host):
                self.forget("log")
                self.answers(restarts=restarts, host=host)
                status, text = self.go([FAILED])
                self.assertEqual(status, 70, text)
                self.assertIn("a newer attempt of this job is there", text)
        self.check_not_requeued()

    def test_slurm_that_does_not_answer(self):
        for how in ("fails", "hangs"):
            with self.subTest(how):
                self.forget("log")
                (self.scratch / "answer").write_text("")
                if how == "hangs":
                    (self.scratch / "hangs").touch()
                status, text = self.go([FAILED])
                self.assertEqual(status, 70, text)
                self.assertIn(f"Slurm does not answer; to go on: sbatch with --run-dir "
                              f"runs/small-{JOB}\n", text)
        self.check_not_requeued()

    def test_slurm_that_does_not_requeue(self):
        (self.scratch / "cannot_requeue").touch()
        status, text = self.go([FAILED])
        self.assertEqual(status, 70, text)
        self.assertIn("scontrol requeue failed; to go on: sbatch with --run-dir", text)

    def test_a_restart_without_the_mark_of_the_first_attempt(self):
        self.answers(restarts=2)
        status, text = self.go([FINISHED], restarts=2)
        self.assertEqual(status, 2, text)
        self.assertEqual(self.attempts(), [])
        self.assertIn("is the run directory on a file system that all nodes share?", text)

    def test_a_restart_without_a_checkpoint_is_told(self):
        self.go([[["state", ["running", "-"]], ["exit", 137]]])
        self.forget("log")
        self.answers(restarts=1)
        status, text = self.go([FINISHED], restarts=1)
        self.assertEqual(status, 0, text)
        self.assertIn("no checkpoint yet: from the beginning", text)

    def test_the_mark_is_of_one_job(self):
        self.run_dir.mkdir(parents=True)
        (self.run_dir / f".job-1{JOB}").touch()
        self.assertEqual(self.go([FINISHED], restarts=1)[0], 2)


class Signals(SbatchTest):
    def signals(self):
        return [line[0] for line in self.log() if line[0].startswith("SIG")]

    def begin_waiting(self, plan, *arguments):
        process = self.begin(plan, *arguments)
        self.wait_for(self.attempts)
        return process

    def test_usr1_saves_and_requeues(self):
        process = self.begin_waiting(
            [[["until", "SIGUSR1"], ["step", 7], ["state", ["stopped", 75]], ["exit", 75]]])
        process.send_signal(signal.SIGUSR1)
        status, text = self.end(process)
        self.assertEqual(status, 75, text)
        self.check_requeued(text)

    def test_after_term_it_never_requeues(self):
        for ending in (["exit", 75], ["exit", 1], ["exit", 137], ["exit", 0]):
            with self.subTest(ending):
                self.forget("log")
                process = self.begin_waiting([[["until", "SIGUSR1"], ["step", 7], ending]])
                process.send_signal(signal.SIGTERM)
                status, text = self.end(process)
                self.assertEqual(status, ending[1], text)
                self.assertIn("ended by Slurm", text)
        self.check_not_requeued()

    def test_nor_after_both(self):
        process = self.begin_waiting([[["signals", 2], ["step", 7], ["exit", 75]]])
        process.send_signal(signal.SIGUSR1)
        self.wait_for(self.signals)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process)[0], 75)
        self.check_not_requeued()

    def test_nor_after_one_that_comes_while_slurm_is_asked(self):
        process = self.begin_waiting([[["until", "SIGUSR1"], ["step", 7], ["exit", 75]]])
        (self.scratch / "cancelled").write_text(str(process.pid))
        process.send_signal(signal.SIGUSR1)
        status, text = self.end(process)
        self.assertEqual(status, 75, text)
        self.assertIn("ended by Slurm", text)
        self.check_not_requeued()

    def test_it_asks_again_until_the_launcher_has_ended(self):
        process = self.begin_waiting([[["signals", 3], ["step", 7], ["exit", 75]]])
        process.send_signal(signal.SIGUSR1)
        status, text = self.end(process)
        self.assertEqual(status, 75, text)
        self.check_requeued(text)

    def test_a_run_that_was_asked_before_it_began_is_requeued_at_once(self):
        process = self.begin_waiting([[["until", "SIGUSR1"], ["raise", signal.SIGUSR1]]])
        process.send_signal(signal.SIGUSR1)
        status, text = self.end(process)
        self.assertEqual(status, 138, text)
        self.assertEqual(len(self.attempts()), 1)
        self.check_requeued(text)

    def test_a_run_that_is_done_all_the_same_is_done(self):
        for number in (signal.SIGUSR1, signal.SIGTERM):
            self.forget("log")
            process = self.begin_waiting([[["until", "SIGUSR1"], *FINISHED]])
            process.send_signal(number)
            self.assertEqual(self.end(process)[0], 0)
        self.check_not_requeued()


if __name__ == "__main__":
    unittest.main()
