#!/usr/bin/env python3
"""A run that was stopped or killed resumes as if nothing had happened.

    python3 resume_test.py --program build/ptb_dist [unittest's arguments]

Compares final checkpoints, byte for byte, and the metrics without their times.
"""

import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import program
from program import SMALL_MODEL, checkpoints, wait_for_fault

FORGER = pathlib.Path(__file__).parent.parent / "support/forged_checkpoint.py"
WINDOWS = 142  # of an epoch of SMALL_MODEL
RUN = [*SMALL_MODEL, "--epochs", "2", "--keep-prob", "0.5", "--metrics-windows", "1",
       "--checkpoint-windows", "20", "--keep-checkpoints", "99"]
TIMES = ("seconds", "words_per_second", "flops")
STOPPED, DIVERGED, KILLED = 75, 76, 137


def timeless(run_dir):
    return [{name: value for name, value in record.items() if name not in TIMES}
            for record in program.records(run_dir)]


class ResumeTestCase(program.TestCase):
    common = tempfile.TemporaryDirectory(prefix="ptb_dist_undisturbed_")

    def go(self, run_dir, *flags, ranks=3, status=0, arguments=RUN, **where):
        ended = self.run_program([*arguments, "--run-dir", str(run_dir), *flags], ranks=ranks,
                                 **where)
        self.assertEqual((ended.status, ended.survivors), (status, []), ended.out + ended.err)
        return ended

    def undisturbed(self, ranks=3):
        """The same run without a fault, made once for all tests."""
        run_dir = pathlib.Path(self.common.name, str(ranks))
        if not run_dir.exists():
            self.go(run_dir, ranks=ranks)
        return run_dir

    def begun(self, *flags, ranks=3):
        """A run that goes as far as the flags say, made once for all tests: a copy of it."""
        made = pathlib.Path(self.common.name, " ".join([*flags, str(ranks)]))
        if not made.exists():
            self.go(made, *flags, ranks=ranks)
        return pathlib.Path(shutil.copytree(made, self.scratch / "run"))

    def assert_same_run(self, run_dir, ranks=3, steps=(WINDOWS, 2 * WINDOWS)):
        expected = self.undisturbed(ranks)
        self.assertEqual(timeless(run_dir), timeless(expected))
        for step in steps:
            self.assertEqual(checkpoints(run_dir)[step].read_bytes(),
                             checkpoints(expected)[step].read_bytes(), step)
        best = [folder / "checkpoints/best.h5" for folder in (run_dir, expected)]
        self.assertEqual(best[0].read_bytes(), best[1].read_bytes())
        self.assertEqual([path for path in run_dir.rglob(".*.tmp.*")], [])


class Killed(ResumeTestCase):
    def test_each_rank_is_killed_once(self):
        """Twice within the first epoch, then in the second: resumed at windows that are not 0."""
        run_dir = self.scratch / "run"
        self.go(run_dir, "--inject", "kill@1:50", status=KILLED)
        self.assertEqual(sorted(checkpoints(run_dir)), [20, 40])
        # Of rank 0: its save of 100 begins when that of 80 is over, and may be cut short.
        ended = self.go(run_dir, "--resume", "auto", "--inject", "kill@0:101", status=KILLED)
        self.assertIn("epoch 1, window 40, step 40", ended.out)
        self.assertIn("Resumed exactly", ended.out)
        ended = self.go(run_dir, "--resume", "auto", "--inject", "kill@2:201", status=KILLED)
        self.assertRegex(ended.out, "epoch 1, window (80, step 80|100, step 100)")
        ended = self.go(run_dir, "--resume", "auto")
        self.assertIn("epoch 2, window 58, step 200", ended.out)
        self.assert_same_run(run_dir)

    def test_rank_0_is_killed_while_it_saves(self):
        run_dir = self.scratch / "run"
        self.go(run_dir, "--inject", "kill@0:60:save", status=KILLED)
        self.assertEqual(sorted(checkpoints(run_dir)), [20, 40])
        self.go(run_dir, "--resume", "auto")
        self.assert_same_run(run_dir)

    def test_a_rank_is_killed_in_validation_and_test(self):
        run_dir = self.scratch / "run"
        self.go(run_dir, "--inject", f"kill@2:{WINDOWS}:validation", status=KILLED)
        self.go(run_dir, "--resume", "auto", "--inject", "kill@1:0:test", status=KILLED)
        self.go(run_dir, "--resume", "auto")
        self.assert_same_run(run_dir)

    def test_a_run_without_a_checkpoint_starts_afresh(self):
        run_dir = self.scratch / "run"
        self.go(run_dir, "--inject", "kill@0:10", status=KILLED)
        self.assertEqual(checkpoints(run_dir), {})
        ended = self.go(run_dir, "--resume", "auto")
        self.assertIn("a fresh start", ended.out)
        self.assert_same_run(run_dir)


class Stopped(ResumeTestCase):
    def stop(self, run_dir, signal_number, fault, ranks=3):
        """Sends the signal when the fault, which takes some time, is told; the run ends with 75."""
        process = self.start_program([*RUN, "--run-dir", str(run_dir), "--resume", "auto",
                                      "--inject", fault], ranks=ranks)
        wait_for_fault(process)
        process.send_signal(signal_number)
        out, err = process.communicate(timeout=50)
        self.assertEqual(program.processes_of_session(process.pid), [])
        return process.returncode, out, err

    def test_usr1_in_training_validation_test_and_while_saving(self):
        run_dir = self.scratch / "run"
        for fault, step in (("slow@1:30", None), ("slow@0:60:save", None),
                            (f"slow@2:{WINDOWS}:validation", WINDOWS),
                            (f"slow@0:{2 * WINDOWS}:test", 2 * WINDOWS)):
            with self.subTest(fault):
                status, out, err = self.stop(run_dir, signal.SIGUSR1, fault)
                self.assertEqual(status, STOPPED, out + err)
                told = re.search(r"Stopped by SIGUSR1; windows done: (\d+); resume with", out)
                self.assertTrue(told, out)
                self.assertIn(int(told[1]), checkpoints(run_dir))
                self.assertIn(step, (None, int(told[1])))
        self.go(run_dir, "--resume", "auto")
        self.assert_same_run(run_dir)

    def test_a_signal_to_one_rank_stops_all(self):
        run_dir = self.scratch / "run"
        process = self.start_program([*RUN, "--run-dir", str(run_dir), "--inject", "slow@2:30"],
                                     ranks=3)
        os.kill(wait_for_fault(process), signal.SIGTERM)
        out, err = process.communicate(timeout=50)
        self.assertEqual(process.returncode, STOPPED, out + err)
        self.assertIn("Stopped by a signal to another rank", out)
        self.go(run_dir, "--resume", "auto")
        self.assert_same_run(run_dir)

    def test_interrupted_once_and_twice(self):
        """Without mpirun, which would end the ranks after a second by itself."""
        for fault, before, second, status in (("slow@0:30", None, False, STOPPED),
                                              ("hang@0:30", None, True, 130),
                                              ("hang@0:31", signal.SIGUSR1, True, 130)):
            with self.subTest(fault):
                run_dir = self.scratch / fault.replace("slow@0:30", "slow")
                process = self.start_program([*RUN, "--run-dir", str(run_dir), "--inject", fault])
                wait_for_fault(process)
                if before:
                    process.send_signal(before)
                    time.sleep(0.1)
                process.send_signal(signal.SIGINT)
                if second:
                    time.sleep(0.3)
                    process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=50)
                self.assertEqual(process.returncode, status, out + err)
        self.go(self.scratch / "slow", "--resume", "auto", ranks=1)
        self.assert_same_run(self.scratch / "slow", ranks=1)

    def test_a_signal_while_it_starts(self):
        process = self.start_program([*RUN, "--run-dir", str(self.scratch / "run")])
        blocked = 0
        while not blocked & 1 << (signal.SIGUSR1 - 1):  # as soon as its libraries are loaded
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            blocked = int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16)
        process.send_signal(signal.SIGUSR1)
        out, err = process.communicate(timeout=50)
        self.assertEqual(process.returncode, STOPPED, out + err)
        self.assertIn("windows done: 1;", out)

    def test_max_windows_and_on(self):
        """In the middle of an epoch, and at its end before the validation."""
        run_dir = self.scratch / "run"
        self.go(run_dir, "--max-windows", "33")
        self.go(run_dir, "--max-windows", str(WINDOWS), "--resume", "auto")
        self.assertEqual(len(program.records(run_dir, "epoch")), 0)
        self.go(run_dir, "--resume", "auto")
        self.assert_same_run(run_dir)

    def test_by_the_clock(self):
        """A checkpoint every 60 ms, and no other but at the ends of the epochs."""
        run_dir = self.scratch / "run"
        clocked = ["--checkpoint-windows", "0", "--checkpoint-minutes", "0.001"]
        self.go(run_dir, *clocked, "--inject", "kill@1:120", status=KILLED)
        steps = sorted(checkpoints(run_dir))
        self.assertGreater(len(steps), 1)
        self.assertTrue(any(step % 20 for step in steps), steps)
        self.go(run_dir, *clocked, "--resume", "auto")
        self.assert_same_run(run_dir)


class GoneOn(ResumeTestCase):
    def test_on_other_numbers_of_ranks(self):
        """2, then 3, then 1: the curve of 1 rank up to rounding, and it is said."""
        common = [*RUN, "--learning-rate", "0.1"]
        run_dir, alone = self.scratch / "run", self.scratch / "alone"
        self.go(alone, ranks=1, arguments=common)
        self.go(run_dir, "--max-windows", "50", ranks=2, arguments=common)
        ended = self.go(run_dir, "--max-windows", "170", "--resume", "auto", ranks=3,
                        arguments=common)
        self.assertIn("up to rounding, because this one has ranks 3 instead of 2", ended.out)
        self.go(run_dir, "--resume", "auto", ranks=1, arguments=common)
        both = [program.records(folder, "window") for folder in (run_dir, alone)]
        self.assertEqual(len(both[0]), 2 * WINDOWS)
        for a, b in zip(*both, strict=True):
            self.assertEqual(a["step"], b["step"])
            self.assertLess(program.relative_difference(a["loss"], b["loss"]), 1e-6, a)

    def test_weak_scaling_keeps_its_global_batch(self):
        run_dir = self.scratch / "run"
        weak = [*RUN, "--scaling", "weak", "--batch-size", "6"]
        self.go(run_dir, "--max-windows", "30", ranks=3, arguments=weak)
        more = ["--max-windows", "50", "--resume", "auto"]
        before = sorted(run_dir.rglob("*"))
        for flags in (["--dry-run"], []):  # told beforehand, and done
            ended = self.go(run_dir, *more, *flags, ranks=2, arguments=weak)
            self.assertIn("18 global lanes of 7 steps: 9 lanes on ranks 0-1", ended.out)
            self.assertIn("Resumed from ", ended.out)
            if flags:
                self.assertEqual(sorted(run_dir.rglob("*")), before)

    def test_more_epochs_later(self):
        run_dir = self.begun("--epochs", "1", ranks=1)
        # Without --config and its flags: the run has its own configuration.
        ended = self.run_program(["--run-dir", str(run_dir), "--resume", "auto", "--epochs", "2",
                                  "--threads", "1"])
        self.assertEqual(ended.status, 0, ended.err)
        self.assert_same_run(run_dir, ranks=1)

    def test_from_an_earlier_checkpoint(self):
        """Later ones are set aside, not lost; in a new folder the old run stays as it was."""
        run_dir, branch = self.scratch / "run", self.scratch / "branch"
        shutil.copytree(self.undisturbed(), run_dir)
        whole = timeless(run_dir)
        earlier = checkpoints(run_dir)[60]
        # Killed before its first own checkpoint, the branch still goes on from there.
        self.go(branch, "--resume", str(earlier), "--inject", "kill@1:70", status=KILLED)
        self.go(branch, "--resume", "auto")
        self.assertEqual(timeless(branch), whole[-len(timeless(branch)):])
        self.go(run_dir, "--resume", str(earlier))
        aside = sorted(path.name for path in (run_dir / "checkpoints/set-aside").iterdir())
        self.assertIn("best.h5", aside)
        self.assertIn("g0000-step-00000284.h5", aside)
        self.assert_same_run(run_dir)

    def test_the_newest_bad_one_is_passed_over(self):
        run_dir = self.scratch / "run"
        self.go(run_dir, "--max-windows", "90")
        newest = checkpoints(run_dir)[90]
        damaged = bytearray(newest.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        newest.write_bytes(damaged)
        ended = self.go(run_dir, "--resume", "auto")
        self.assertRegex(ended.err, r"warning: .*step-00000090\.h5.* digest .*; resuming from "
                                    r".*step-00000080\.h5 instead")
        self.assert_same_run(run_dir)

    def test_from_the_best_in_its_own_run(self):
        """The path that is left is set aside as a whole, and does not come back."""
        run_dir = self.begun("--epochs", "1", ranks=1)
        best = run_dir / "checkpoints/best.h5"
        wild = ["--override", "learning_rate,max_grad_norm", "--learning-rate", "20",
                "--max-grad-norm", "50"]
        self.go(run_dir, "--resume", "auto", *wild, ranks=1)
        flags = ["--learning-rate", "1", "--max-grad-norm", "5", "--keep-checkpoints", "2"]
        # The save of 180 begins when that of 160 is over, and may be cut short by the kill.
        self.go(run_dir, "--resume", str(best), *flags, "--inject", "kill@0:181", ranks=1,
                status=-signal.SIGKILL)
        left = sorted(checkpoints(run_dir))
        self.assertIn(160, left)
        self.assertEqual([step for step in left if step < WINDOWS], [])
        ended = self.go(run_dir, "--resume", "auto", *flags, ranks=1)
        self.assertRegex(ended.out, r"window (18, step 160|38, step 180)")
        self.assert_same_run(run_dir, ranks=1, steps=(2 * WINDOWS,))

    def test_a_best_that_a_kill_has_prevented_is_made_good(self):
        run_dir = self.begun("--epochs", "1", ranks=1)
        best = run_dir / "checkpoints/best.h5"
        best.unlink()
        self.go(run_dir, "--epochs", "1", "--resume", "auto", ranks=1)
        self.assertEqual(best.read_bytes(), checkpoints(run_dir)[WINDOWS].read_bytes())

    def test_old_checkpoints_are_removed(self):
        run_dir = self.scratch / "run"
        self.go(run_dir, "--keep-checkpoints", "2")
        self.assertEqual(sorted(checkpoints(run_dir)), [280, 284])
        self.assertTrue((run_dir / "checkpoints/best.h5").exists())

    def test_test_perplexity_of_the_best_epoch(self):
        """A learning rate that grows wild after the first epoch makes that the best."""
        run_dir = self.begun("--epochs", "1", ranks=1)
        ended = self.go(run_dir, "--resume", "auto", "--override", "learning_rate,max_grad_norm",
                        "--learning-rate", "20", "--max-grad-norm", "50", ranks=1)
        self.assertIn("settings that differ from the checkpoint's (learning_rate, max_grad_norm)",
                      ended.out)
        final, best = program.records(run_dir, "test")
        self.assertEqual((final["weights"], best["weights"], best["epoch"]), ("final", "best", 0))
        self.assertLess(best["perplexity"], final["perplexity"])
        self.assertIn("Best epoch by validation: 1; its Test Perplexity: ", ended.out)
        evaluated = self.run_program(["eval", "--checkpoint",
                                      str(run_dir / "checkpoints/best.h5"), "--data", "synthetic",
                                      "--synthetic-tokens", "20000", "--synthetic-vocab", "300"])
        self.assertEqual(evaluated.status, 0, evaluated.err)
        told = re.search(r"Test Perplexity: ([\d.]+)", evaluated.out)
        self.assertAlmostEqual(float(told[1]), best["perplexity"], places=3)


class Sensitivity(ResumeTestCase):
    """What the comparisons above would find: a state or sums that are forgotten."""

    def resume_from_forged(self, change):
        run_dir = self.begun("--max-windows", "50")
        subprocess.run(["/usr/bin/python3", FORGER, checkpoints(run_dir)[50], change], check=True)
        self.go(run_dir, "--resume", "auto")
        return run_dir

    def test_a_forgotten_state_and_forgotten_sums_are_found(self):
        for change in ("forgotten_state", "forgotten_sums"):
            with self.subTest(change):
                run_dir = self.resume_from_forged(change)
                with self.assertRaises(AssertionError):
                    self.assert_same_run(run_dir)
            shutil.rmtree(self.scratch / "run")

    def test_a_forger_who_changes_nothing_is_not(self):
        self.assert_same_run(self.resume_from_forged("nothing"))


class Diverged(ResumeTestCase):
    def test_a_loss_that_is_not_a_number_is_never_saved(self):
        run_dir = self.scratch / "run"
        ended = self.go(run_dir, "--inject", "nan@1:50", status=DIVERGED)
        self.assertIn("training diverged", ended.err)
        self.assertEqual(sorted(checkpoints(run_dir)), [20, 40])
        losses = [record["loss"] for record in program.records(run_dir, "window")]
        self.assertTrue(all(math.isfinite(loss) for loss in losses[:-1]) and losses[-1] is None)
        self.go(run_dir, "--resume", "auto")
        self.assert_same_run(run_dir)


if __name__ == "__main__":
    program.run_tests()
