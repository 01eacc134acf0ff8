#!/usr/bin/env python3
"""Checkpoints of an early ptb_dist (0.1.0, commit cad7433) stay usable for ever: they verify, they
can be inspected, and a run resumes from them. io/old_checkpoint_test.cpp compares what is read with
what was written.

    python3 old_checkpoints_test.py --program build/ptb_dist [unittest's arguments]

Each was written at window 100 of a run of 4 epochs of 74 windows, which --max-windows 100 stopped
in the second epoch. TEXT and the arguments in RUNS define the runs. The perplexities are what that
program printed at the end of a whole run; another instruction set changes them by less than 1e-5.
"""

import dataclasses
import pathlib

import program
from program import checkpoints

FOLDER = pathlib.Path(__file__).parent.parent / "io/old_checkpoints"
TEXT = ["--data", "synthetic", "--synthetic-tokens", "1500", "--synthetic-vocab", "20",
        "--vocab-size", "20"]
SHAPE = [*TEXT, "--batch-size", "4", "--eval-lanes", "2", "--num-steps", "5", "--threads", "1",
         "--init-scale", "0.25", "--backend", "cpu", "--epochs", "4", "--max-epoch", "3"]
LAST = 4 * 74  # windows of a run


@dataclasses.dataclass
class Run:
    name: str
    arguments: list
    perplexity: float


RUNS = [Run("plain", [*SHAPE, "--num-layers", "1", "--hidden-size", "6"], 7.25151095),
        Run("dropout", [*SHAPE, "--num-layers", "2", "--hidden-size", "5", "--keep-prob", "0.75",
                        "--forget-bias", "0.5", "--lane-groups", "2",
                        "--seed", "9007199254740993"], 11.9476905)]


class OldCheckpoints(program.TestCase):
    def files(self):
        return [str(FOLDER / f"{run.name}.h5") for run in RUNS]

    def test_they_are_good(self):
        ended = self.run_program(["checkpoint", "verify", *self.files()])
        self.assertEqual((ended.status, ended.err), (0, ""))
        self.assertEqual(ended.out.count(": good, step 100, "), len(RUNS))

    def test_they_are_inspected(self):
        ended = self.run_program(["checkpoint", "inspect", *self.files()])
        self.assertEqual((ended.status, ended.err), (0, ""))
        for line in ("config: keep_prob = 0.75", "config: seed = 9007199254740993",
                     "corpus: 20 words", "exact class: ranks = any of 2 lane groups",
                     "/parameters/lstm/1/kernel [10,20]: norm 2.16938, largest 0.388591",
                     "/state/lstm/0/h [4,5]: norm 0.289591, largest 0.174424",
                     "/state/lstm/1/c [4,5]: norm 0.304291, largest 0.117409"):
            self.assertIn(line, ended.out)

    def test_they_are_gone_on_from(self):
        for run in RUNS:
            with self.subTest(run.name):
                ends = []
                for attempt in range(2):
                    run_dir = self.scratch / f"{run.name}{attempt}"
                    ended = self.run_program([*run.arguments, "--run-dir", str(run_dir),
                                              "--resume", str(FOLDER / f"{run.name}.h5")])
                    self.assertEqual(ended.status, 0, ended.err)
                    self.assertIn("epoch 2, window 26, step 100", ended.out)
                    ends.append(checkpoints(run_dir)[LAST].read_bytes())
                    final = program.records(run_dir, "test")[0]
                    self.assertAlmostEqual(final["perplexity"], run.perplexity, delta=1e-3)
                self.assertEqual(*ends)


if __name__ == "__main__":
    program.run_tests()
