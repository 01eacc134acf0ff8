#!/usr/bin/env python3
"""Several ranks on a single GPU sum by MPI, and by NCCL. With an NCCL_HOSTID for each rank, NCCL
takes the ranks for those of different hosts.

    python3 one_gpu_test.py --program build/ptb_dist [unittest's arguments]

Without a GPU: --program build/ptb_dist_cuda_on_cpu. PTB_DIST_TEST_QUICK=1: only in bf16.
"""

import re
import subprocess

import cuda_trainer_test
import program

FLAGS = [*cuda_trainer_test.MODEL, "--threads", "1", "--backend", "cuda"]
WINDOWS = 5
ANOTHER_HOST_EACH = "export NCCL_HOSTID=rank$RANK"
PRECISIONS = ("bf16",) if cuda_trainer_test.IS_QUICK else ("fp32", "tf32", "bf16")
WAYS = {"one": (1, "auto"), "mpi": (2, "mpi"), "nccl": (2, "nccl")}


class OneGpu(cuda_trainer_test.OnCpu):
    def go(self, way, *flags):
        """Folder of a run, by one of WAYS."""
        ranks, comm = WAYS[way]
        self.runs += 1
        run_dir = self.scratch / f"{way}{self.runs}"
        ended = program.run([*FLAGS, "--comm", comm, "--max-windows", str(WINDOWS), "--run-dir",
                             str(run_dir), *flags], self.each_rank(ANOTHER_HOST_EACH), ranks=ranks,
                            mpirun=self.mpirun, cwd=self.scratch, timeout=150)
        self.assertEqual(ended.status, 0, ended.out + ended.err)
        return run_dir

    def ways(self):
        """Those with several ranks that this program has."""
        version = subprocess.run([self.program, "--version"], capture_output=True, text=True)
        if re.search("NCCL: built without", version.stdout):
            print("not by NCCL: the program was built without it")
            return ["mpi"]
        return ["mpi", "nccl"]

    def test_the_curve_of_one_rank(self):
        # On the emulation 1e-7 at most was seen.
        for precision in PRECISIONS:
            flags = ["--precision", precision]
            expected = program.records(self.go("one", *flags), "window")
            for way in self.ways():
                found = program.records(self.go(way, *flags), "window")
                with self.subTest(way, precision=precision):
                    self.assert_near(found, expected, 1e-6, precision, f", {way}")

    def test_lane_groups_have_the_same_bits(self):
        for precision in PRECISIONS:
            flags = ["--precision", precision, "--lane-groups", "2"]
            expected = program.checkpoints(self.go("one", *flags))[WINDOWS].read_bytes()
            for way in self.ways():
                with self.subTest(way, precision=precision):
                    found = program.checkpoints(self.go(way, *flags))[WINDOWS].read_bytes()
                    self.assertTrue(found == expected, "other bytes")


if __name__ == "__main__":
    program.run_tests()
