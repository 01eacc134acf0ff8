#!/usr/bin/env python3
"""Ranks with a GPU each, which sum by NCCL: the whole trainer, without a GPU and without NCCL's
library (tests/cuda_on_cpu).

    python3 nccl_test.py --program build/ptb_dist_cuda_on_cpu \\
        --without build/ptb_dist_cuda_on_cpu_without_nccl [unittest's arguments]
"""

import argparse
import pathlib
import re

import cuda_trainer_test
import program

# 9 lanes are uneven on 2, 4 and 8 ranks; the softmax's part is one that a tree cuts in halves.
MODEL = [*cuda_trainer_test.MODEL, "--batch-size", "9", "--hidden-size", "42", "--num-steps", "3",
         "--comm", "nccl"]
EPOCH = [*cuda_trainer_test.SHORT, "--epochs", "1"]  # 29 windows, 6 of validation
KILLED, LOST_A_PEER = 137, 70
DEADLINE = 3  # seconds
OTHER_NCCL = ("21803", "2.18.3")  # than the one whose header the build has found, in all likelihood


class Nccl(cuda_trainer_test.OnCpu):
    without = None

    def go(self, *flags, ranks=2, seed=1, script="", devices=8, status=0, binary=None):
        self.runs += 1
        run_dir = self.scratch / f"run{self.runs}"
        ended = program.run([*MODEL, "--backend", "cuda", "--precision", "fp32", "--threads", "1",
                             "--run-dir", str(run_dir), *flags], self.each_rank(script, binary),
                            ranks=ranks, mpirun=self.mpirun, cwd=self.scratch, timeout=100,
                            changes=dict(CUDA_ON_CPU_SEED=str(seed),
                                         CUDA_ON_CPU_DEVICES=str(devices)))
        self.assertEqual(ended.status, status, ended.out + ended.err)
        self.assertEqual(ended.survivors, [])
        return run_dir, ended

    def curve(self, *flags, windows=10, **where):
        run_dir, _ = self.go("--max-windows", str(windows), *flags, **where)
        found = program.records(run_dir, "window")
        self.assertEqual(len(found), windows)
        return found

    def traces(self, run):
        """Of a run with TRACE: what each rank did, in order."""
        return [path.read_text().splitlines() for path in sorted(self.scratch.glob(f"{run}.*"))]

    def trace_to(self, run):
        return f"export CUDA_ON_CPU_TRACE={self.scratch}/{run}.$RANK"


class Sums(Nccl):
    def test_the_curve_of_one_rank(self):
        # Rounding grows with every window, and at learning rate 1 fast (configs/README.md); seen:
        # 7e-8.
        expected = self.curve(ranks=1)
        for ranks, seed in ((2, 0), (3, 1), (4, 2), (8, 3)):
            with self.subTest(ranks=ranks):
                self.assert_near(self.curve(ranks=ranks, seed=seed), expected, 1e-6)

    def test_reduced_precisions_are_near(self):
        for precision, bound in (("tf32", 1e-5), ("bf16", 1e-5)):  # seen: 8e-7, 8e-8
            flags = ["--precision", precision]
            expected = self.curve(*flags, ranks=1)
            for ranks in (2, 3):
                with self.subTest(precision, ranks=ranks):
                    self.assert_near(self.curve(*flags, ranks=ranks, seed=2), expected, bound)

    def test_lane_groups_have_the_same_bits_on_every_number_of_ranks_and_by_mpi(self):
        found = {}
        for ranks, comm in ((1, "nccl"), (2, "nccl"), (2, "mpi"), (4, "nccl"), (8, "nccl")):
            run_dir, _ = self.go("--lane-groups", "8", "--max-windows", "5", "--comm", comm,
                                 ranks=ranks, seed=ranks)
            found[ranks, comm] = program.checkpoints(run_dir)[5].read_bytes()
        self.assertEqual({key for key, file in found.items() if file != found[1, "nccl"]}, set())

    def test_validation_and_test(self):
        """Of 3 lanes: one of 4 ranks has none of them."""
        def perplexities(ranks):
            run_dir, _ = self.go(*EPOCH, ranks=ranks)
            return [r["perplexity"] for r in program.records(run_dir)
                    if r["kind"] == "test" or (r["kind"], r.get("split")) == ("epoch", "valid")]
        expected = perplexities(1)
        for ranks in (2, 4):
            for one, other in zip(perplexities(ranks), expected, strict=True):
                self.assertLess(program.relative_difference(one, other), 1e-4)

    def test_a_resumed_run_is_exact_where_nccl_is_the_same(self):
        run_dir, _ = self.go("--max-windows", "3")
        for script, how in (("", "Resumed exactly"),
                            (f"export CUDA_ON_CPU_NCCL={OTHER_NCCL[0]}", f"nccl {OTHER_NCCL[1]}")):
            _, ended = self.go("--resume", str(program.checkpoints(run_dir)[3]), "--max-windows",
                               "5", script=script)
            self.assertIn(how, ended.out)


class Order(Nccl):
    def test_every_rank_calls_the_same_in_every_schedule(self):
        called, curves = set(), set()
        for seed in range(5):
            curves.add(str(self.curve(windows=4, ranks=3, seed=seed,
                                      script=self.trace_to(f"seed{seed}"))))
            for trace in self.traces(f"seed{seed}"):
                called.add("\n".join(line for line in trace if line.startswith("call ")))
        self.assertEqual((len(called), len(curves)), (1, 1))
        # The loss, with it the softmax's part; each layer's, from the top; the embedding's.
        calls = called.pop().splitlines()
        counts = [int(line.split()[2]) for line in calls[:5]]
        vocabulary, hidden = 200, 42
        layer = 8 * hidden * hidden + 4 * hidden
        self.assertEqual(counts[:4], [3, (hidden + 1) * vocabulary, layer, layer])
        self.assertEqual(counts[4] % hidden, 0)  # rows of words
        self.assertEqual(len(calls), 4 * 5)

    def test_sums_run_beside_the_backward_pass(self):
        """Rank 1 is late, so that rank 0's sum of the softmax's part waits for it: meanwhile the
        recurrence goes on, whose kernels are in stack.cu."""
        self.curve("--inject", "slow@1:0", windows=4, seed=0,
                   script=self.trace_to("late") + "\nexport CUDA_ON_CPU_GRAPHS=0")
        trace = self.traces("late")[0]
        begin = trace.index("begin nccl ")
        meanwhile = trace[begin:trace.index("end nccl ", begin)]
        recurrence = [line for line in meanwhile if line.startswith("end kernel stack.cu")]
        self.assertGreaterEqual(len(recurrence), 2 * 3)  # layers, steps


class Failures(Nccl):
    def fails(self, *flags, words, **where):
        _, ended = self.go("--timeout", str(DEADLINE), *EPOCH, *flags, status=LOST_A_PEER,
                           **where)
        errors = re.findall(r"error: .*", ended.err)
        self.assertTrue(any(re.search(words, line) for line in errors), ended.err)
        self.assertNotIn("cuda_on_cpu", ended.err)
        return errors

    def test_a_killed_rank_ends_all(self):
        for fault in ("kill@1:0", "kill@0:5", "kill@1:20:validation", "kill@2:20:test",
                      "kill@0:20:save"):
            with self.subTest(fault):
                self.go("--inject", fault, *EPOCH, ranks=3, status=KILLED)

    def test_a_rank_that_hangs(self):
        # The emulated device of a rank that hangs stands still, and with it what was begun before.
        for fault, words in (
                ("hang@1:5",
                 "the sum over ranks of .+ does not end: waited 3 s for the loss of window [345]: "
                 r"rank [02] of 3 .*no sign of rank 1 on \S+: lost, stopped"),
                ("hang@1:5:validation", "sum over ranks of the valid loss.*does not end: waited")):
            with self.subTest(fault):
                self.fails("--inject", fault, words=words, ranks=3)

    def test_a_rank_that_hangs_in_a_tree(self):
        self.fails("--inject", "hang@1:5", "--lane-groups", "4", words="sum over ranks of .+ does "
                   "not end", ranks=4)

    def test_an_error_of_nccl(self):
        for seed in (0, 1):
            self.fails(words="NCCL failed: .*: remote process exited.*NCCL_DEBUG=WARN", seed=seed,
                       script="test $RANK = 1 && export CUDA_ON_CPU_FAIL=nccl-async:8")

    def test_a_start_that_never_ends(self):
        self.fails(words="waited 3 s for NCCL to start on every rank",
                   script="test $RANK = 1 && export CUDA_ON_CPU_FAIL=nccl-init:1")

    def test_an_abort_that_hangs(self):
        errors = self.fails("--inject", "hang@1:5", words="does not end: waited 3 s for the loss"
                            ".*; and ncclCommAbort hangs",
                            script="export CUDA_ON_CPU_FAIL=nccl-abort:1")
        self.assertEqual(len(errors), 1)


class Errors(Nccl):
    def refuses(self, words, *flags, **where):
        _, ended = self.go("--max-windows", "2", *flags, status=69, **where)
        self.assertRegex(ended.err, words)
        self.assertEqual(len(re.findall("error: ", ended.err)), 1, ended.err)

    def test_two_ranks_on_a_device(self):
        words = "more ranks than GPUs: ranks 0 and 1: both have .*GPU-0.*; .*--comm mpi"
        for comm in ("nccl", "auto"):
            self.refuses(words, "--comm", comm, devices=1)
        self.refuses(words, devices=1, script="export NCCL_HOSTID=one")
        _, ended = self.go("--max-windows", "2", devices=1, script="export NCCL_HOSTID=$RANK")
        self.assertRegex(ended.err, r"ranks 0 and 1 share .*GPU-0.*NCCL_HOSTID")

    def test_a_device_each_by_the_launcher(self):
        """Each rank sees one device, which is another one."""
        _, ended = self.go("--max-windows", "2", ranks=3,
                           script="export CUDA_ON_CPU_BOUND=$RANK")
        self.assertEqual(len(set(re.findall(r"Rank \d: .*(GPU-\S+), 0000:0\d:00.0", ended.out))), 3)

    def test_other_versions(self):
        self.refuses(f'differ in their NCCL version: rank 2 has "{OTHER_NCCL[1]}"; ranks 0, 1 '
                     r'have "2\.\d+\.\d+"', ranks=3,
                     script=f"test $RANK = 2 && export CUDA_ON_CPU_NCCL={OTHER_NCCL[0]}")

    def test_a_program_without_it(self):
        self.refuses("--comm nccl: NCCL is not part of this build; use --comm mpi",
                     binary=self.without)
        _, ended = self.go("--max-windows", "2", "--comm", "auto", binary=self.without)
        self.assertIn("all-reduce: mpi, staged", ended.out)

    def test_the_backend_of_the_host(self):
        self.refuses("--comm nccl: it sums between GPUs, and the backend is cpu", "--backend",
                     "cpu")

    def test_auto_takes_it(self):
        _, ended = self.go("--max-windows", "2", "--comm", "auto")
        self.assertRegex(ended.out, r"all-reduce: nccl 2\.\d+\.\d+")


def begin(args):
    Nccl.without = pathlib.Path(args.without).resolve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--without", required=True, help="the program without NCCL")
    program.run_tests(parser, begin)
