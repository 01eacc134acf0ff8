#!/usr/bin/env python3
"""A run whose time is over stops early enough to save, and says of itself how it ended.

    python3 time_limit_test.py --program build/ptb_dist [unittest's arguments]
"""

import re
import time

import program
import resume_test
from program import checkpoints, wait_for_fault


class TimeLimit(resume_test.ResumeTestCase):
    def test_time_that_runs_out(self):
        run_dir = self.scratch / "run"
        began = time.monotonic()
        ended = self.go(run_dir, "--stop-after", "3s", "--inject", "slow@0:0", ranks=1,
                        status=resume_test.STOPPED)
        self.assertLess(time.monotonic() - began, 9)
        told = re.search(r"Stopped by --stop-after 3s; windows done: (\d+); resume with", ended.out)
        self.assertTrue(told, ended.out)
        self.assertIn(int(told[1]), checkpoints(run_dir))
        self.assertIn(" state=stopped code=75\n", (run_dir / ".attempt").read_text())
        # The end of the job, which comes sooner than it was said at first.
        end = self.scratch / "end"
        end.write_text(f"{int(time.time()) + 3600}\n")
        process = self.start_program(
            [*resume_test.RUN, "--run-dir", str(run_dir), "--resume", "auto", "--inject",
             "slow@0:0"], changes={"PTB_DIST_END_FILE": str(end)})
        wait_for_fault(process)
        end.write_text(f"{int(time.time()) + 3}\n")
        out, err = process.communicate(timeout=50)
        self.assertEqual(process.returncode, resume_test.STOPPED, out + err)
        self.assertIn("Stopped by the end of the job's time; windows done: ", out)
        self.go(run_dir, "--resume", "auto", ranks=1)
        self.assert_same_run(run_dir, ranks=1)

    def test_the_run_says_how_it_ended(self):
        run_dir = self.scratch / "run"
        short = ["--epochs", "1", "--checkpoint-windows", "0"]
        for flags, state, code in (
                (["--max-windows", "5"], "max_windows", 0),
                (["--resume", "auto", "--seed", "9"], "failed", 2),
                (["--resume", "auto", "--inject", "nan@0:9"], "failed", resume_test.DIVERGED),
                (["--resume", "auto"], "finished", 0)):
            with self.subTest(flags):
                ended = self.run_program(
                    [*resume_test.RUN, *short, "--run-dir", str(run_dir), *flags],
                    changes={"PTB_DIST_ATTEMPT": "17.2.0"})
                self.assertEqual(ended.status, code, ended.err)
                self.assertRegex((run_dir / ".attempt").read_text(),
                                 rf"^17\.2\.0 generation=\d .* state={state} code={code}\n$")


if __name__ == "__main__":
    program.run_tests()
