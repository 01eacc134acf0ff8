#!/usr/bin/env python3
"""Recurrent cells other than the LSTM, as a user runs them: they learn, they resume bit for bit,
their checkpoints name the cell, and no cell accepts another's weights.

    python3 cells_test.py --program build/ptb_dist --mpirun mpirun... [unittest's arguments]
"""

import program

USAGE, BAD_DATA = 2, 65
MODEL = ["--data", "synthetic", "--synthetic-tokens", "9000", "--synthetic-vocab", "30",
         "--vocab-size", "30", "--hidden-size", "8", "--num-steps", "10", "--batch-size", "12",
         "--eval-lanes", "4", "--keep-prob", "0.8", "--learning-rate", "0.3", "--threads", "1"]
CELLS = ("gru", "rnn")


class Cells(program.TestCase):
    def train(self, run_dir, *flags, status=0, **how):
        ended = self.run_program([*MODEL, "--run-dir", str(self.scratch / run_dir), *flags], **how)
        self.assertEqual(ended.status, status, ended.err)
        return ended

    def perplexities(self, run_dir):
        return [record["perplexity"] for record in program.records(self.scratch / run_dir, "epoch")
                if record["split"] == "valid"]

    def newest(self, run_dir):
        return max((self.scratch / run_dir / "checkpoints").glob("g*.h5"),
                   key=lambda path: path.name.rpartition("-")[2])

    def test_they_learn_and_resume_bit_for_bit(self):
        for cell in CELLS:
            with self.subTest(cell):
                flags = ["--cell", cell, "--epochs", "2"]
                self.train(f"{cell}-quiet", *flags)
                self.train(f"{cell}-shared", *flags, "--threads", "2")  # of six lanes
                for one, two in zip(self.perplexities(f"{cell}-quiet"),
                                    self.perplexities(f"{cell}-shared")):
                    self.assertAlmostEqual(one / two, 1, delta=1e-3)
                first, second = self.perplexities(f"{cell}-quiet")
                self.assertLess(second, first)
                self.train(f"{cell}-parted", *flags, "--max-windows", "101")
                self.assertIn("step-00000101", self.newest(f"{cell}-parted").name)
                resumed = self.train(f"{cell}-parted", *flags, "--resume", "auto")
                self.assertIn("Resumed exactly", resumed.out)
                self.assertEqual(self.newest(f"{cell}-parted").read_bytes(),
                                 self.newest(f"{cell}-quiet").read_bytes())

    def test_a_checkpoint_is_of_its_cell(self):
        self.train("gru", "--cell", "gru", "--max-windows", "5")
        file = str(self.newest("gru"))
        inspected = self.run_program(["checkpoint", "inspect", file])
        self.assertIn('config: cell = "gru"', inspected.out)
        self.assertIn("/parameters/gru/1/recurrent_bias", inspected.out)
        for way in (["--resume", file], ["--init-from", file]):
            with self.subTest(way):
                ended = self.train("other", "--cell", "lstm", *way, status=USAGE)
                self.assertRegex(ended.err, 'has "gru"|trained with cell "gru"')
                self.assertIn('give --cell "gru"', ended.err)
        evaluated = self.run_program(["eval", "--checkpoint", file, *MODEL[:8]])
        self.assertEqual(evaluated.status, 0, evaluated.err)

    def test_parameters_go_out_and_come_back(self):
        saved = str(self.scratch / "saved.h5")
        self.train("a", "--cell", "gru", "--max-windows", "20", "--save-parameters", saved)
        self.train("b", "--cell", "gru", "--init-from", saved, "--epochs", "0",
                   "--save-parameters", saved + "2")
        with open(saved, "rb") as there, open(saved + "2", "rb") as back:
            self.assertEqual(there.read(), back.read())
        ended = self.train("c", "--cell", "rnn", "--init-from", saved, status=BAD_DATA)
        self.assertIn("/parameters/rnn", ended.err)


if __name__ == "__main__":
    program.run_tests()
