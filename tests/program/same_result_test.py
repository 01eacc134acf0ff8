#!/usr/bin/env python3
"""More results that must not depend on how the work is shared: weak scaling, evaluation, threads,
repeats.

    python3 same_result_test.py --program build/ptb_dist [unittest's arguments]
"""


import program
from program import SMALL_MODEL

TIMES = ("seconds", "words_per_second", "flops")
DROPOUT = ["--keep-prob", "0.5"]


def without_times(record):
    return {name: value for name, value in record.items() if name not in TIMES}


class SameResult(program.TestCase):
    def assert_close(self, metrics_a, metrics_b, bound):
        """The same records, their real numbers equal within `bound` of their size."""
        self.assertEqual(len(metrics_a), len(metrics_b))
        for a, b in zip(map(without_times, metrics_a), map(without_times, metrics_b)):
            self.assertEqual(a.keys(), b.keys())
            for name, value in a.items():
                if isinstance(value, float):
                    difference = program.relative_difference(value, b[name])
                    self.assertLessEqual(difference, bound, f"{name} of {a} and {b}")
                else:
                    self.assertEqual(value, b[name], f"{name} of {a} and {b}")

    def test_weak_scaling_is_strong_scaling_with_the_same_global_batch(self):
        common = [*SMALL_MODEL, *DROPOUT, "--max-windows", "20"]
        strong = self.train([*common, "--batch-size", "20"])
        weak = self.train([*common, "--batch-size", "10", "--scaling", "weak"], ranks=2)
        self.assert_close(strong, weak, 1e-5)

    def test_evaluation_is_the_same_on_any_number_of_ranks(self):
        # At learning rate 0 all runs evaluate the very same weights, and these are trained: with
        # random ones each word has about the same loss, and a forgotten lane would go unseen.
        trained = self.scratch / "trained.h5"
        self.train([*SMALL_MODEL, "--epochs", "1", "--save-parameters", str(trained)])
        # 3 lanes on 5 ranks: two of them have none. 3 on 2: one has two.
        common = [*SMALL_MODEL, "--epochs", "1", "--eval-lanes", "3", "--learning-rate", "0",
                  "--init-from", str(trained)]
        perplexities = {}
        for ranks in (1, 2, 5):
            metrics = self.train(common, ranks=ranks)
            perplexities[ranks] = [r for r in metrics if r.get("split") in ("valid", "test")]
            self.assertEqual([r["kind"] for r in perplexities[ranks]], ["epoch", "test"])
            self.assert_close(perplexities[1], perplexities[ranks], 1e-7)

    def test_a_run_repeats_bit_for_bit(self):
        for ranks in (1, 3):
            with self.subTest(ranks=ranks):
                metrics, files = [], []
                for attempt in range(2):
                    saved = self.scratch / f"{ranks}-{attempt}.h5"
                    metrics.append(self.train([*SMALL_MODEL, *DROPOUT, "--epochs", "1",
                                               "--save-parameters", str(saved)], ranks=ranks))
                    files.append(saved.read_bytes())
                self.assertEqual(*[[*map(without_times, m)] for m in metrics])
                self.assertTrue(files[0] == files[1], "the saved parameters differ")

    def test_the_number_of_threads_is_only_a_matter_of_rounding(self):
        common = [*SMALL_MODEL, *DROPOUT, "--max-windows", "20"]
        # The last --threads counts; SMALL_MODEL has one.
        self.assert_close(self.train(common), self.train([*common, "--threads", "2"]), 1e-5)

    def test_another_seed_is_another_run(self):
        """The comparisons above would see a difference."""
        losses = [self.train([*SMALL_MODEL, "--max-windows", "5", "--seed", seed])[-1]["loss"]
                  for seed in ("1", "2")]
        self.assertGreater(program.relative_difference(*losses), 1e-4)


if __name__ == "__main__":
    program.run_tests()
