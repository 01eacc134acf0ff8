#!/usr/bin/env python3
"""A job that continues after a suspension longer than --timeout; and a single rank that is stopped.

    python3 suspended_test.py --program build/ptb_dist [unittest's arguments]
"""

import os
import pathlib
import re
import signal
import time

import program
from program import SMALL_MODEL, checkpoints, wait_for_fault

DEADLINE = 2  # seconds
LOST_A_PEER = 70
WINDOWS = 30
# Slow from its window 20 on, so that the others wait when it is stopped.
SLOW = ["--inject", "slow@0:20"]


class Suspended(program.TestCase):
    def begin(self, run_dir, ranks, *flags):
        return self.start_program(
            [*SMALL_MODEL, "--max-windows", str(WINDOWS), "--timeout", str(DEADLINE), "--run-dir",
             run_dir, *flags], ranks=ranks)

    def end(self, process, status):
        out, err = process.communicate(timeout=50)
        self.assertEqual(process.returncode, status, out + err)
        deadline = time.monotonic() + 15
        while left := program.processes_of_session(process.pid):
            self.assertLess(time.monotonic(), deadline, left)
            time.sleep(0.05)
        return err

    def ranks_of(self, process):
        """Processes of the program, by rank."""
        found = {}
        for number in program.processes_of_session(process.pid):
            variables = pathlib.Path(f"/proc/{number}/environ").read_text()
            if rank := re.search(r"\0OMPI_COMM_WORLD_RANK=(\d+)\0", variables):
                found[int(rank[1])] = number
        return found

    def test_all_ranks(self):
        """And all ranks with their launcher: two jobs, suspended in the same seconds."""
        jobs = {ranks: self.begin(f"{ranks}", ranks, *SLOW) for ranks in (2, 3)}
        for process in jobs.values():
            wait_for_fault(process)
        paused = [*self.ranks_of(jobs[2]).values(), jobs[3].pid, *self.ranks_of(jobs[3]).values()]
        self.assertEqual(len(paused), 6)
        for number in paused:
            os.kill(number, signal.SIGSTOP)
        time.sleep(3 * DEADLINE + 1)
        for number in reversed(paused):
            os.kill(number, signal.SIGCONT)
        for ranks, process in jobs.items():
            self.end(process, 0)
            self.end(self.begin(f"quiet{ranks}", ranks), 0)
            files = [checkpoints(self.scratch / folder)[WINDOWS].read_bytes()
                     for folder in (f"{ranks}", f"quiet{ranks}")]
            self.assertEqual(*files)
            # Speed is that of training: ten windows that are slow by 0.2 s each, without the pause.
            seconds = program.records(self.scratch / f"{ranks}", "progress")[-1]["seconds"]
            self.assertLess(seconds, 3 * DEADLINE)

    def test_a_single_rank_is_named(self):
        process = self.begin("run", 3, *SLOW)
        wait_for_fault(process)
        os.kill(self.ranks_of(process)[2], signal.SIGSTOP)
        begin = time.monotonic()
        err = self.end(process, LOST_A_PEER)
        # A deadline, a second of roll call, and what mpirun takes to end a stopped process.
        self.assertLess(time.monotonic() - begin, 3 * (DEADLINE + 1 + 2))
        self.assertIn(f"no sign of rank 2 on {os.uname().nodename}: lost, stopped", err)


if __name__ == "__main__":
    program.run_tests()
