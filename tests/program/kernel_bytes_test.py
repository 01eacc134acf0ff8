#!/usr/bin/env python3
"""Bytes that each kernel of the CUDA backend moves, without a GPU: at most 1.2 times the minimum.

    python3 kernel_bytes_test.py --program build/ptb_dist_cuda_racecheck [unittest's arguments]
    python3 kernel_bytes_test.py --program build/ptb_dist_cuda_racecheck --table  # for RESULTS.md

The build with the race check counts them (tests/cuda_on_cpu/traffic.cpp). A kernel without a
row in the tables below fails. So does a kernel that moves less than its minimum, because then one
of the two is wrong.
"""

import argparse
import json
import pathlib
import random
import re
import tempfile

import program

BACKEND = pathlib.Path(__file__).resolve().parents[2] / "src" / "backend" / "cuda"
BOUND = 1.2

# What each kernel must move in a window of training with dropout: first the bytes between memory
# and the L2 cache, each array once a launch; then those that come from the L2 cache beside them,
# since blocks share what they read. N = T·B; U distinct words of the window, R of the one that has
# most; P parameters but the embedding's; S partial sums of the norm; sectors() for scalars, which
# dominate nothing. Values are fp32 where nothing else is said.
MINIMA = {
    # The window's ids, in and out: inputs, targets, positions; words, where their positions begin.
    "copy_row": ("8*(3*N + 2*R + 2)", "0"),
    # A mask is a byte.
    "keep_masks": ("(L + 1)*N*H", "0"),
    # The words' rows, out, masks, ids. A word's row once more for each further position.
    "look_up": ("4*U*H + 4*N*H + N*H + 4*N", "4*(N - U)*H"),
    # d_out, masks, the words' rows; where each word's positions begin, and the positions.
    "sum_words": ("4*N*H + N*H + 4*U*H + 4*(U + 1) + 4*N", "0"),
    # Of a cell and step: 4 gates in and out, c in and out, h, out, a mask. The bias, for each lane.
    "lstm_forward_step": ("L*T*(49*B*H + 16*H)", "L*T*16*(B - 1)*H"),
    # 4 gates in and d_z out, c before and after, d_out, a mask, d_c out; d_h and d_c in, but at the
    # last step.
    "lstm_backward_step": ("L*T*49*B*H + L*(T - 1)*8*B*H", "0"),
    # Logits in, their gradient out, targets, losses in fp64. The bias, for each row.
    "softmax_rows": ("8*N*V + 4*V + 12*N", "4*(N - 1)*V"),
    "sum_up": ("sectors(8*N) + sectors(8)", "0"),
    # d_logits and the layers' d_z; their sums.
    "sum_columns": ("4*N*V + 4*V + L*(16*N*H + 16*H)", "0"),
    # The gradient; partial sums in fp64.
    "sum_squares": ("4*(U*H + P) + 8*S", "0"),
    "root_of_sum": ("sectors(8*S) + sectors(8)", "0"),
    # Gradient in, weights in and out; ids.
    "step_rows": ("12*U*H + 4*U", "0"),
    "step_dense": ("12*P", "0"),
    # The flag, norm and loss.
    "remember_failure": ("3*sectors(8)", "0"),
}
MINIMA_OF_BF16 = {
    # fp32 in, bf16 out. The weights once; the others as often as a product takes them: a layer's
    # input and h twice, d_z in the recurrence (not the first step's) and twice, the softmax's input
    # twice, d_logits.
    "to_bf16": ("6*(8*L*H*H + H*V + 4*L*N*H + 4*L*(3*N - B)*H + 2*N*H + N*V)", "0"),
}
MINIMA_OF_TWO_LANE_GROUPS = {
    # One's gradient in, the other's in and out; so for loss and requests, in fp64.
    "add_elements": ("12*(U*H + P) + 3*sectors(24)", "0"),
}
# Of other cells, in the place of the lstm's two.
MINIMA_OF_CELLS = {
    "gru": {
        # Of a cell and step: 3 gates in and out, their recurrent shares in, the last one out, h
        # before, h, out, a mask. Two biases, for each lane.
        "gru_forward_step": ("L*T*(53*B*H + 24*H)", "L*T*24*(B - 1)*H"),
        # 3 gates in and d_z out, a share in and 3 gradients out, h before, d_out, a mask, d_h out;
        # d_h in, but at the last step.
        "gru_backward_step": ("L*T*53*B*H + L*(T - 1)*4*B*H", "0"),
    },
    "rnn": {
        "rnn_forward_step": ("L*T*(17*B*H + 4*H)", "L*T*4*(B - 1)*H"),
        "rnn_backward_step": ("L*T*13*B*H + L*(T - 1)*4*B*H", "0"),
    },
}
BEFORE_THE_FIRST_WINDOW = {"do_nothing"}

table = {}  # by kernel, a line of RESULTS.md


def sectors(size):
    """Bytes of an array of `size`, as memory moves it."""
    return -(-size // 32) * 32


def kernels_launched(text):
    return re.findall(r"\blaunch\((\w+)", text)


def kernel_at(place):
    """The kernel that is launched at "stack.cu:118"."""
    file, line = place.split(":")
    return kernels_launched("\n".join((BACKEND / file).read_text().splitlines()[:int(line)]))[-1]


class KernelBytes(program.TestCase):
    # Large enough for scalars not to count; a window takes half a second.
    MODEL = dict(T=6, B=6, H=128, V=1000, L=2)
    WINDOW = 2  # that is looked at: by then all is captured

    def write_corpus(self):
        """Splits of a text; how many distinct words the inputs of each window have."""
        T, B = self.MODEL["T"], self.MODEL["B"]
        words = random.Random(1).choices([f"w{k}" for k in range(30)], k=400)
        for split in ("train", "valid", "test"):
            (self.scratch / f"ptb.{split}.txt").write_text(" ".join(words) + "\n")
        lane_length = (len(words) + 1) // B  # the end of the line is a token
        firsts = range(0, B * lane_length, lane_length)
        return [len({word for first in firsts for word in words[first + at:first + at + T]})
                for at in range(0, lane_length - T, T)]

    def counts(self, windows, *flags):
        """{kernel: (runs, bytes of memory, bytes of the L2 cache)} of a training."""
        path = self.scratch / f"counts{windows}.json"
        run_dir = tempfile.mkdtemp(dir=self.scratch)
        T, B, H, V, L = map(str, self.MODEL.values())
        ended = self.run_program(
            ["--data", str(self.scratch), "--vocab-size", V, "--hidden-size", H, "--num-layers", L,
             "--num-steps", T, "--batch-size", B, "--eval-lanes", "1", "--keep-prob", "0.5",
             "--backend", "cuda", "--max-windows", str(windows), "--run-dir",
             run_dir, *flags],
            changes=dict(CUDA_ON_CPU_COUNTS=str(path)), timeout=300)
        self.assertEqual(ended.status, 0, ended.err)
        found = {}
        for place, count in json.loads(path.read_text())["by_kernel"].items():
            here = (count["runs"], *(count["read"][level] + count["written"][level]
                                     for level in ("memory", "blocks")))
            before = found.get(kernel_at(place), (0, 0, 0))
            found[kernel_at(place)] = tuple(a + b for a, b in zip(before, here))
        return found

    def assert_bytes(self, minima, *flags, others=frozenset()):
        """Those kernels and the others run in the window, and the former move what they must."""
        distinct_words = self.write_corpus()
        few, many = (self.counts(self.WINDOW + k, *flags) for k in (0, 1))
        window = {kernel: [b - a for a, b in zip(few[kernel], many[kernel])] for kernel in many}
        self.assertEqual({kernel for kernel, (runs, *_) in window.items() if runs > 0},
                         {*minima, *others})

        T, B, H, V, L = self.MODEL.values()
        dense = L * (8 * H * H + 4 * H) + H * V + V
        U, R = distinct_words[self.WINDOW], max(distinct_words)
        norm_blocks = -(-R * H // 4096) - (-dense // 4096)
        sizes = dict(self.MODEL, N=T * B, U=U, R=R, P=dense, S=norm_blocks, sectors=sectors)
        for kernel, formulas in minima.items():
            memory, again = (eval(formula, sizes) for formula in formulas)
            _, *moved = window[kernel]
            ratios = [a / b for a, b in zip(moved, (memory, memory + again))]
            for ratio in ratios:
                told = f"{kernel} moves {moved} bytes, and must {memory}, {memory + again}"
                self.assertGreaterEqual(ratio, 1, told)
                self.assertLessEqual(ratio, BOUND, told)
            table[kernel] = "| {} | {} | {} | {:.3f} | {:.3f} |".format(
                kernel, *(formula.replace("*", "·") for formula in formulas), *ratios)

    def test_fp32(self):
        self.assert_bytes(MINIMA, "--precision", "fp32")

    def test_bf16(self):
        self.assert_bytes({**MINIMA, **MINIMA_OF_BF16}, "--precision", "bf16")

    def test_lane_groups_are_added(self):
        self.assert_bytes(MINIMA_OF_TWO_LANE_GROUPS, "--precision", "fp32", "--lane-groups", "2",
                          others=MINIMA)

    def test_other_cells(self):
        others = {kernel for kernel in MINIMA if not kernel.startswith("lstm_")}
        for cell, minima in MINIMA_OF_CELLS.items():
            with self.subTest(cell):
                self.assert_bytes(minima, "--precision", "fp32", "--cell", cell, others=others)

    def test_every_kernel_has_a_minimum(self):
        launched = {kernel for path in BACKEND.glob("*.cu")
                    for kernel in kernels_launched(path.read_text())}
        of_cells = {kernel for minima in MINIMA_OF_CELLS.values() for kernel in minima}
        self.assertEqual(launched, {*MINIMA, *MINIMA_OF_BF16, *MINIMA_OF_TWO_LANE_GROUPS,
                                    *of_cells, *BEFORE_THE_FIRST_WINDOW})


def print_table():
    print("| kernel | minimum, bytes of a window | from the L2 cache beside | memory | L2 |")
    print("|---|---|---|---|---|")
    print("\n".join(line for _, line in sorted(table.items())))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(add_help=False)
    arguments.add_argument("--table", action="store_true")
    given = []
    program.run_tests(arguments, begin=given.append,
                      end=lambda: print_table() if given[0].table else None)
