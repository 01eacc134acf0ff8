#!/usr/bin/env python3
"""--precision bf16 on a CPU keeps what is promised of any run: it is near fp32, says with what it
multiplies, goes on bit for bit, and in lane groups has the same bytes on any number of ranks.

    python3 bf16_test.py --program build/ptb_dist_portable --native build/ptb_dist

The program has portable products (support/portable_products.hpp), so that this is tested on every
processor; on one with AMX the native program has the same losses, on one with AVX512_BF16 near
ones.
"""

import argparse
import pathlib

import program

MISSING = 69
MODEL = ["--data", "synthetic", "--synthetic-tokens", "4000", "--synthetic-vocab", "60",
         "--vocab-size", "60", "--hidden-size", "17", "--num-steps", "6", "--batch-size", "7",
         "--eval-lanes", "3", "--keep-prob", "0.7", "--learning-rate", "0.3", "--threads", "1",
         "--epochs", "1", "--backend", "cpu", "--metrics-windows", "4"]
CELLS = ("lstm", "gru", "rnn")


def losses(run_dir):
    return [record["loss"] for record in program.records(run_dir, "window")]


def farthest(a, b):
    pairs = list(zip(losses(a), losses(b), strict=True))
    return max(program.relative_difference(*pair) for pair in pairs)


def last(run_dir):
    return max(program.checkpoints(run_dir).items())[1].read_bytes()


class Bf16(program.TestCase):
    native = None

    def go(self, name, *flags, precision="bf16", of=None, ranks=1):
        run_dir = self.scratch / name
        ended = program.run([*MODEL, "--precision", precision, "--run-dir", str(run_dir), *flags],
                            of or self.program, mpirun=self.mpirun, ranks=ranks)
        self.assertEqual(ended.status, 0, ended.err)
        return ended.out, run_dir

    def check_resume(self, whole, *flags, of=None):
        self.go("parted", *flags, "--max-windows", "31", "--fresh", of=of)
        out, parted = self.go("parted", *flags, "--resume", "auto", of=of)
        self.assertIn("Resumed exactly", out)
        self.assertEqual(last(parted), last(whole))

    def test_every_cell_is_near_fp32_and_resumes_bit_for_bit(self):
        for cell in CELLS:
            with self.subTest(cell):
                flags = ["--cell", cell]
                _, fp32 = self.go(f"{cell}-fp32", *flags, precision="fp32")
                out, whole = self.go(f"{cell}-whole", *flags)
                self.assertIn("cpu, bf16 by plain loops, loops ", out)
                difference = farthest(fp32, whole)
                self.assertGreater(difference, 1e-6)  # it is another precision
                self.assertLess(difference, 1e-2)
                self.check_resume(whole, *flags)

    def test_another_precision_is_no_exact_resume(self):
        self.go("run", "--max-windows", "5")
        out, _ = self.go("run", "--resume", "auto", "--max-windows", "6", precision="fp32")
        self.assertRegex(out, "up to rounding.*bf16 by plain loops")

    def test_losses_do_not_depend_on_threads(self):
        """Of products whose bits do not: so nothing else's do."""
        _, one = self.go("one", "--threads", "1")
        _, two = self.go("two", "--threads", "2")
        self.assertEqual(losses(one), losses(two))

    def test_with_the_instructions_of_this_processor(self):
        ended = program.run([*MODEL, "--precision", "bf16", "--dry-run"], self.native)
        if ended.status == MISSING:
            self.assertRegex(ended.err, "AMX.*AVX512_BF16")
            self.skipTest("no bf16 on this processor")
        self.assertEqual(ended.status, 0, ended.err)
        self.assertRegex(ended.out, "cpu, bf16 by (amx|avx512)_bf16, ")
        _, portable = self.go("portable")
        _, native = self.go("native", of=self.native)
        if "amx_bf16" in ended.out:  # plain tiles have its bits
            self.assertEqual(losses(portable), losses(native))
        self.assertLess(farthest(portable, native), 1e-2)
        self.check_resume(native, of=self.native)
        one, two = (last(self.go(f"{ranks}", "--lane-groups", "2", of=self.native, ranks=ranks)[1])
                    for ranks in (1, 2))
        self.assertEqual(one, two)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(add_help=False)
    arguments.add_argument("--native", type=lambda path: pathlib.Path(path).resolve(),
                           required=True)
    program.run_tests(arguments, begin=lambda args: setattr(Bf16, "native", args.native))
