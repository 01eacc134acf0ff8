#!/usr/bin/env python3
"""Lane groups as a user runs them: restarts on other numbers of ranks, accumulation, refusals.

    python3 lane_groups_test.py --program build/ptb_dist [unittest's arguments]
"""

import program
from program import SMALL_MODEL

RUN = [*SMALL_MODEL, "--epochs", "2", "--keep-prob", "0.5", "--checkpoint-windows", "20",
       "--lane-groups", "8", "--keep-checkpoints", "99"]
KILLED = 137


def final(run_dir):
    return max(program.checkpoints(run_dir).items())[1]


class LaneGroups(program.TestCase):
    def test_killed_on_4_ranks_resumed_on_2_and_then_on_8(self):
        alone, moved = self.scratch / "alone", self.scratch / "moved"
        self.train(RUN, run_dir=alone)
        ended = self.run_program([*RUN, "--run-dir", str(moved), "--inject", "kill@3:70"], ranks=4)
        self.assertEqual(ended.status, KILLED, ended.err)
        ended = self.run_program([*RUN, "--run-dir", str(moved), "--resume", "auto",
                                  "--max-windows", "190"], ranks=2)
        self.assertEqual(ended.status, 0, ended.err)
        self.assertIn("Resumed exactly", ended.out)
        self.train([*RUN, "--resume", "auto"], ranks=8, run_dir=moved)
        self.assertEqual(final(moved).read_bytes(), final(alone).read_bytes())
        self.assertEqual((moved / "checkpoints/best.h5").read_bytes(),
                         (alone / "checkpoints/best.h5").read_bytes())

    def test_on_3_ranks_it_is_equal_up_to_rounding_and_says_so(self):
        common = [*RUN, "--learning-rate", "0.1", "--max-windows", "100"]
        alone = self.train(common)
        ended = self.run_program([*common, "--run-dir", "three", "--metrics-windows", "1"], ranks=3)
        self.assertEqual(ended.status, 0, ended.err)
        self.assertIn("8 lane groups have the same bits on 1, 2, 4 or 8 ranks; on 3 they are equal "
                      "up to rounding", ended.err)
        for a, b in zip(alone, program.records(self.scratch / "three")):
            self.assertLess(program.relative_difference(a["loss"], b["loss"]), 1e-6, a)
        ended = self.run_program([*common, "--run-dir", "three", "--resume", "auto",
                                  "--max-windows", "110"], ranks=2)
        self.assertIn("rounding, because this one has ranks any of 8 lane groups instead of 3",
                      ended.out)

    def test_groups_on_one_rank_are_one_batch_up_to_rounding(self):
        """Gradient accumulation: what is computed in parts is the whole."""
        common = [*SMALL_MODEL, "--keep-prob", "0.5", "--learning-rate", "0.1", "--max-windows",
                  "100"]
        whole = self.train(common)
        for groups in ("1", "3", "20"):
            parts = self.train([*common, "--lane-groups", groups])
            self.assertEqual(len(parts), len(whole))
            for a, b in zip(whole, parts, strict=True):
                for key in ("loss", "gradient_norm"):
                    self.assertLess(program.relative_difference(a[key], b[key]), 1e-5, (groups, a))

    def test_what_does_not_fit_is_refused(self):
        for ranks, groups, words in ((3, "2", "more ranks than lane groups"),
                                     (1, "21", "more lane groups than lanes")):
            ended = self.run_program([*SMALL_MODEL, "--lane-groups", groups], ranks=ranks)
            self.assertEqual(ended.status, 2, ended.out)
            self.assertIn(words, ended.err)

    def test_the_plan_is_told(self):
        ended = self.run_program([*SMALL_MODEL, "--lane-groups", "8", "--dry-run"], ranks=2)
        self.assertIn("Lane groups: 8 of 2 or 3 lanes, at most 4 per rank; the same bits "
                      "on 1, 2, 4 or 8 ranks", ended.out)
        self.assertIn("1 thread a rank", ended.out)


if __name__ == "__main__":
    program.run_tests()
