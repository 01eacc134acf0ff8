#!/usr/bin/env python3
"""Does it learn, and does it report that correctly? Reads the program's output and files.

    python3 train_test.py --program build/ptb_dist [unittest's arguments]
"""

import collections
import itertools
import math
import os
import random
import re
import subprocess

import program
from program import SMALL_MODEL


def select(metrics, kind, split=None):
    return [r for r in metrics if r["kind"] == kind and split in (None, r.get("split"))]


def perplexity(losses, num_steps):
    """Of windows, from their costs: each is summed over time and averaged over the lanes."""
    return math.exp(sum(losses) / (len(losses) * num_steps))


class Learning(program.TestCase):
    def test_a_tiny_corpus_is_learned_by_heart(self):
        # 40 words in an order that one word of context does not tell, again and again: whoever
        # remembers has perplexity 1, and a bigram model at best that of the pairs.
        order = random.Random(1)
        lap = [f"w{order.randrange(8)}" for _ in range(40)]
        for split, laps in (("train", 50), ("valid", 10), ("test", 10)):
            (self.scratch / f"ptb.{split}.txt").write_text(" ".join(lap * laps))
        pairs = collections.Counter(zip(lap, lap[1:] + lap[:1]))
        words = collections.Counter(lap)
        bigram = math.exp(-sum(n * math.log(n / words[a]) for (a, _), n in pairs.items()) / 40)
        self.assertGreater(bigram, 2)

        metrics = self.train(["--data", str(self.scratch), "--vocab-size", "8", "--num-layers", "1",
                              "--hidden-size", "32", "--num-steps", "20", "--batch-size", "5",
                              "--eval-lanes", "2", "--epochs", "25", "--max-epoch", "12",
                              "--lr-decay", "0.7"])
        first, last = [select(metrics, "epoch", "valid")[i]["perplexity"] for i in (0, -1)]
        self.assertGreater(first, 2)
        # Above 1 remains what the start of a lane costs, where nothing is remembered yet.
        self.assertLess(last, 1.1)
        self.assertLess(select(metrics, "test")[0]["perplexity"], 1.1)

    def test_a_source_is_learned_to_its_bound(self):
        """50 words in 7 classes: a few hundred probabilities from 200,000 tokens."""
        # A split of n tokens has a perplexity of its own: the logarithm of a word's probability
        # spreads by about 1.5, so that is within 1.5/sqrt(16,000) = 1.2 % around the source's, and
        # three times that is allowed. On top comes what the model has not learned, 1 %. Predicting
        # the input instead of the next word would end far below the bound.
        metrics = self.train(["--data", "synthetic", "--synthetic-tokens", "200000",
                              "--synthetic-vocab", "50", "--vocab-size", "50", "--num-layers", "1",
                              "--hidden-size", "32", "--num-steps", "10", "--eval-lanes", "5",
                              "--epochs", "2", "--max-epoch", "1", "--lr-decay", "0.2"])
        test, = select(metrics, "test")
        bound = test["perplexity_bound"]
        for found in (test, select(metrics, "epoch", "valid")[-1]):
            self.assertGreater(found["perplexity"], 0.96 * bound)
            self.assertLess(found["perplexity"], 1.05 * bound)

    def test_saved_parameters_go_on_where_they_were(self):
        saved = self.scratch / "saved.h5"
        common = [*SMALL_MODEL, "--max-epoch", "9"]
        self.train([*common, "--epochs", "1", "--save-parameters", str(saved)])
        # The second epoch begins with the weights of the first one's end and a state of zeros.
        through = self.train([*common, "--epochs", "2"])
        again = self.train([*common, "--max-windows", "3", "--init-from", str(saved)])
        keys = ("loss", "gradient_norm")
        second_epoch = [r for r in select(through, "window") if r["epoch"] == 1]
        for a, b in zip(second_epoch, select(again, "window")):
            self.assertEqual([a[k] for k in keys], [b[k] for k in keys])


    def test_every_epoch_starts_afresh(self):
        """At learning rate 0 epochs differ in nothing but their dropout."""
        common = [*SMALL_MODEL, "--epochs", "2", "--learning-rate", "0"]
        for keep_prob, are_equal in (("1", True), ("0.5", False)):
            metrics = self.train([*common, "--keep-prob", keep_prob])
            losses = [r["loss"] for r in select(metrics, "window")]
            self.assertEqual(losses[:142] == losses[142:], are_equal, keep_prob)
            valid = [r["perplexity"] for r in select(metrics, "epoch", "valid")]
            self.assertEqual(valid[0], valid[1])


class Records(program.TestCase):
    """20,000 tokens: 20 lanes of 1,000, 142 windows of 7 tokens in an epoch."""

    TRAIN_WORDS = 142 * 7 * 20
    VALID_TOKENS = 20000 * 73760 // 929589  # 1586: 20 lanes of 79, 11 windows
    TEST_TOKENS = 20000 * 82430 // 929589

    def test_fields(self):
        metrics = self.train([*SMALL_MODEL, "--epochs", "1"])
        window = ["kind", "epoch", "window", "step", "loss", "gradient_norm", "learning_rate"]
        split = ["split", "lanes", "predicted_tokens", "perplexity"]
        epoch = ["kind", "epoch", "step", "learning_rate", *split]
        expected = {("window", None): window,
                    ("progress", "train"): window + split + ["seconds", "words_per_second",
                                                             "flops"],
                    ("epoch", "train"): epoch + ["seconds", "words_per_second"],
                    ("epoch", "valid"): epoch + ["seconds"],
                    ("test", "test"): ["kind", "weights", "epoch", *split, "perplexity_bound",
                                       "seconds"]}
        found = {(r["kind"], r.get("split")): sorted(r) for r in metrics}
        self.assertEqual(found, {name: sorted(fields) for name, fields in expected.items()})
        self.assertEqual([r["kind"] for r in metrics[-3:]], ["epoch", "epoch", "test"])

        for kind, name, lanes, words in (
                ("epoch", "train", 20, self.TRAIN_WORDS), ("epoch", "valid", 20, 11 * 7 * 20),
                ("test", "test", 1, self.TEST_TOKENS - 1)):
            record, = select(metrics, kind, name)
            self.assertEqual((record["lanes"], record["predicted_tokens"]), (lanes, words), name)

    def test_perplexities_are_those_of_the_windows(self):
        metrics = self.train([*SMALL_MODEL, "--epochs", "2"])
        for epoch, windows in itertools.groupby(select(metrics, "window"), lambda r: r["epoch"]):
            losses = [r["loss"] for r in windows]
            self.assertEqual(len(losses), 142)
            told = [r for r in select(metrics, "progress") + select(metrics, "epoch", "train")
                    if r["epoch"] == epoch]
            self.assertGreater(len(told), 5)
            for record in told:
                so_far = losses[:record.get("window", 141) + 1]
                self.assertAlmostEqual(record["perplexity"] / perplexity(so_far, 7), 1, places=6)
                self.assertEqual(record["predicted_tokens"], len(so_far) * 7 * 20)

    def test_learning_rates_follow_the_schedule(self):
        metrics = self.train([*SMALL_MODEL, "--epochs", "4", "--max-epoch", "2",
                              "--learning-rate", "0.8", "--lr-decay", "0.5"])
        rates = [r["learning_rate"] for r in select(metrics, "epoch", "valid")]
        for rate, expected in zip(rates, [0.8, 0.8, 0.4, 0.2], strict=True):
            self.assertAlmostEqual(rate, expected, places=12)

    def test_progress_by_the_rule_of_the_tutorial(self):
        self.check_progress([], windows=142, expected=[*range(10, 142, 14)])

    def test_progress_of_an_epoch_too_short_for_that_rule(self):
        # The last window of each tenth: 49 windows end theirs with 4, 9, 14, 19, 24, ...
        expected = [math.ceil(49 * tenth / 10) - 1 for tenth in range(1, 11)]
        self.check_progress(["--num-steps", "20"], windows=49, expected=expected)

    def check_progress(self, flags, windows, expected):
        metrics = self.train([*SMALL_MODEL, *flags, "--epochs", "1"])
        self.assertEqual(len(select(metrics, "window")), windows)
        self.assertEqual([r["window"] for r in select(metrics, "progress")], expected)

    def test_max_windows_ends_the_run_there(self):
        # In the second epoch: 142 + 8. No validation behind the cut one, and no test.
        metrics = self.train([*SMALL_MODEL, "--max-windows", "150"])
        windows = select(metrics, "window")
        self.assertEqual([r["step"] for r in windows], [*range(150)])
        self.assertEqual([(r["epoch"], r["window"]) for r in windows[-9:]],
                         [(0, 141), *((1, w) for w in range(8))])
        self.assertEqual(len(select(metrics, "epoch")), 2)
        self.assertEqual(select(metrics, "test"), [])

    def test_metrics_windows_thins_the_window_records_out(self):
        run_dir = self.scratch / "thin"
        self.train([*SMALL_MODEL, "--max-windows", "150", "--metrics-windows", "50"],
                   run_dir=run_dir)
        steps = [record["step"] for record in program.records(run_dir, "window")]
        self.assertEqual(steps, [0, 50, 100])

    def test_no_epochs_test_the_initial_weights(self):
        metrics = self.train([*SMALL_MODEL, "--epochs", "0"])
        self.assertEqual([r["kind"] for r in metrics], ["test"])
        # Random weights know nothing: about as many choices as words.
        self.assertAlmostEqual(metrics[0]["perplexity"] / 300, 1, delta=0.05)


class UserInterface(program.TestCase):
    def test_printed_configuration_is_a_configuration(self):
        flags = ["--config", "medium", "--lr-decay", "0.3333333333333333", "--seed", "7",
                 "--data", 'a "b" \\ c']
        printed = self.run_program(["config", *flags])
        self.assertEqual((printed.status, printed.err), (0, ""))
        (self.scratch / "printed.toml").write_text(printed.out)
        again = self.run_program(["config", "--config", "printed.toml"])
        values = [[line.partition("#")[0] for line in text.splitlines()]
                  for text in (printed.out, again.out)]
        self.assertEqual(values[0], values[1])
        self.assertIn("hidden_size = 650", printed.out)
        self.assertIn("lr_decay = 0.3333333333333333 ", printed.out)

    def test_dry_run_tells_the_plan_and_leaves_nothing(self):
        ended = self.run_program([*SMALL_MODEL, "--dry-run"], ranks=3)
        self.assertEqual(ended.status, 0, ended.err)
        for words in ("20 global lanes of 7 steps", "7 lanes on ranks 0-1, 6 lanes on rank 2",
                      "142 windows", f"{Records.TRAIN_WORDS} predicted tokens", "parameters"):
            self.assertIn(words, ended.out)
        self.assertNotRegex(ended.out, "warning: (?!.* core)")  # there may be fewer than ranks
        weak = self.run_program([*SMALL_MODEL, "--dry-run", "--scaling", "weak"], ranks=3)
        self.assertRegex(weak.out, r"(?m)^warning: weak scaling: 47 updates an epoch instead of")
        self.assertEqual([*self.scratch.iterdir()], [])

    def test_run_directory(self):
        run_dir = self.scratch / "deep/run"
        ended = self.run_program([*SMALL_MODEL, "--epochs", "1", "--run-dir", str(run_dir)],
                                 ranks=2)
        self.assertEqual((ended.status, ended.survivors), (0, []), ended.err)
        self.assertEqual(sorted(path.name for path in run_dir.iterdir()),
                         [".attempt", ".lock", "checkpoints", "config.toml", "log.txt",
                          "manifest.json", "metrics.jsonl"])
        self.assertEqual((run_dir / "log.txt").read_text(), ended.out.replace("\r\n", "\n"))
        for line in (r"^Epoch: 1 Learning rate: 1\.000$",
                     r"^0\.070 perplexity: \d+\.\d{3} speed: \d+ wps",
                     r"^Epoch: 1 Train Perplexity: \d+\.\d{3}",
                     r"^Epoch: 1 Valid Perplexity: \d+\.\d{3}", r"^Test Perplexity: \d+\.\d{3}"):
            self.assertRegex(ended.out, re.compile(line, re.MULTILINE))

    def test_a_run_without_checkpoints(self):
        run_dir = self.scratch / "run"
        flags = [*SMALL_MODEL, "--synthetic-tokens", "3000", "--epochs", "2",
                 "--checkpoint-windows", "7", "--keep-checkpoints", "0", "--run-dir", str(run_dir)]
        for more, tests in (["--max-windows", "9"], 0), (["--fresh"], 1):
            ended = self.run_program([*flags, *more])
            self.assertEqual(ended.status, 0, ended.err)
            self.assertNotIn("training waited", ended.out)
            self.assertEqual(list((run_dir / "checkpoints").iterdir()), [])
            self.assertEqual(len(program.records(run_dir, "test")), tests)

    def test_the_configuration_of_a_run_runs_again(self):
        """Elsewhere, without the environment, into a folder of its own, to the same end."""
        corpus, elsewhere = self.scratch / "corpus", self.scratch / "elsewhere"
        corpus.mkdir()
        elsewhere.mkdir()
        for split in ("train", "valid", "test"):
            (corpus / f"ptb.{split}.txt").write_text("a b c a d <unk>\n" * 200)
        run_dir = self.scratch / "run"
        flags = [*SMALL_MODEL, "--data", "", "--epochs", "1", "--run-dir", "run"]
        ended = self.run_program(flags, ranks=2, changes={"PTB_DATA": "corpus"})
        self.assertEqual(ended.status, 0, ended.err)
        ended = self.run_program(["--config", str(run_dir / "config.toml")], ranks=2, cwd=elsewhere)
        self.assertEqual(ended.status, 0, ended.err)
        again, = (elsewhere / "runs").iterdir()
        perplexities = [select(program.records(folder), "test")[0]["perplexity"]
                        for folder in (run_dir, again)]
        self.assertEqual(*perplexities)
        for words in (f"Configuration: config, {run_dir}/config.toml",
                      "hidden_size = 24 (config.toml)"):
            self.assertIn(words, (again / "log.txt").read_text())

    def test_a_reader_that_leaves_does_not_end_the_run(self):
        # What "| head -1" does, at once.
        for redirection in ("1", "1 2>&1"):
            with self.subTest(redirection):
                run_dir = self.scratch / f"run{redirection}"
                reading, writing = os.pipe()
                os.close(reading)
                ended = subprocess.run(
                    [self.program, *SMALL_MODEL, "--epochs", "1", "--run-dir", run_dir],
                    cwd=self.scratch, env=program.environment(), stdout=writing, timeout=50,
                    stderr=subprocess.PIPE if redirection == "1" else writing)
                os.close(writing)
                self.assertEqual(ended.returncode, 0, ended.stderr)
                self.assertRegex((run_dir / "log.txt").read_text(), r"\nTest Perplexity: .*\n")

    def test_text_for_a_reader_that_leaves(self):
        for flags in (["--help"], ["config"], ["--dry-run", *SMALL_MODEL]):
            with self.subTest(" ".join(flags)):
                reading, writing = os.pipe()
                os.close(reading)
                ended = subprocess.run([self.program, *flags], env=program.environment(),
                                       stdout=writing, stderr=subprocess.PIPE, timeout=50)
                os.close(writing)
                self.assertEqual((ended.returncode, ended.stderr), (0, b""))

    def test_text_for_a_full_disk(self):
        with open("/dev/full", "w") as full:
            ended = subprocess.run([self.program, "config"], env=program.environment(),
                                   stdout=full, stderr=subprocess.PIPE, timeout=50, text=True)
        self.assertEqual(ended.returncode, 74)
        self.assertIn("standard output: No space left", ended.stderr)

    def test_runs_without_a_name_get_a_folder_each(self):
        for _ in range(2):
            ended = self.run_program([*SMALL_MODEL, "--max-windows", "1"])
            self.assertEqual(ended.status, 0, ended.err)
        names = sorted(path.name for path in (self.scratch / "runs").iterdir())
        self.assertEqual(len(names), 2)
        for name in names:
            self.assertRegex(name, r"^small-\d{8}-\d{6}(-2)?$")

    def test_help_and_version(self):
        for flag, words in (("--help", "--max-grad-norm"), ("--version", "ptb_dist ")):
            ended = self.run_program([flag], ranks=2)
            self.assertEqual((ended.status, ended.err), (0, ""))
            self.assertEqual(ended.out.count(words), 1)  # rank 0 alone speaks


if __name__ == "__main__":
    program.run_tests()
