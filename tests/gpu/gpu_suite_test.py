#!/usr/bin/env python3
"""gpu_suite.py, gpu_machine.py and compute_sanitizer.sh, with scripts in the places of tests and of
NVIDIA's tools.

    python3 gpu_suite_test.py [unittest's arguments]
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import gpu_machine

HERE = pathlib.Path(__file__).resolve().parent
# Two GPUs, of which the second idles. An older driver's: it knows the reasons by their old name.
NVIDIA_SMI = r"""#!/bin/sh
case $1 in
  *clocks_event_reasons*) echo 'Field "clocks_event_reasons.active" is not a valid field'; exit 2 ;;
  *name*)
    for gpu in 0 1; do
      echo "NVIDIA H200, GPU-$gpu, 580.65.06, 143771, 1980, 3201, 700.00, Default, [N/A]"
    done
    exit ;;
  --query-gpu=index*) ;;
  *) echo 0x0000000000000000; exit ;;
esac
sample() {
  echo "0, 100, $1, 3201, $2, 60, 0x0000000000000004"
  echo "1, 0, 345, 3201, 70.00, [N/A], 0x0000000000000001"
}
sample 1980 650.50
sample 1200 700.00
sample 1410 699.00
case $* in *--loop-ms*) ;; *) exit ;; esac
while sleep 0.1; do sample 1410 699.00; done
"""


class TestCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ptb_dist_suite_")
        self.addCleanup(folder.cleanup)
        self.scratch = pathlib.Path(folder.name)
        self.bin = self.scratch / "bin"
        self.bin.mkdir()
        path = mock.patch.dict(os.environ, PATH=f"{self.bin}:{os.environ['PATH']}")
        path.start()
        self.addCleanup(path.stop)

    def script(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


class Machine(TestCase):
    def samples(self):
        with gpu_machine.Sampler(period=0.01) as sampler:
            deadline = time.monotonic() + 30
            while len(sampler.samples) < 6 and time.monotonic() < deadline:
                time.sleep(0.01)
            first = sampler.summary()
            self.assertEqual(sampler.summary(), [])
        self.assertIsNotNone(sampler.process.poll())
        return first

    def test_the_cards(self):
        self.script(self.bin / "nvidia-smi", NVIDIA_SMI)
        found = gpu_machine.machine()
        self.assertEqual([gpu["uuid"] for gpu in found["gpus"]], ["GPU-0", "GPU-1"])
        self.assertEqual(found["gpus"][0]["mig"], None)
        self.assertEqual(gpu_machine.line(found), "2 x NVIDIA H200 (driver 580.65.06, 143771 MiB, "
                                                  "up to 1980 MHz, 700 W)")

    def test_clocks_and_power(self):
        self.script(self.bin / "nvidia-smi", NVIDIA_SMI.replace("sleep 0.1", "sleep 60"))
        self.assertEqual(self.samples(), [
            dict(gpu=0, samples=3, busy=3, sm_clock=[1200, 1410, 1980],
                 memory_clock=[3201, 3201, 3201], power=[650.5, 699, 700],
                 temperature=[60, 60, 60], slowed={"power cap": 3}),
            dict(gpu=1, samples=3, busy=0, sm_clock=None, memory_clock=None, power=None,
                 temperature=None, slowed={})])

    def test_a_driver_that_does_not_know_why_it_is_slow(self):
        text = NVIDIA_SMI.replace("*) echo 0x0000000000000000; exit ;;", "*) exit 2 ;;")
        text = text.replace(", 0x0000000000000004", "").replace(", 0x0000000000000001", "")
        self.script(self.bin / "nvidia-smi", text)
        busy, _ = self.samples()
        self.assertEqual((busy["sm_clock"], busy["slowed"]), ([1200, 1410, 1980], {}))

    def test_no_nvidia_smi_or_one_that_fails_or_hangs(self):
        os.environ["PATH"] = str(self.bin)
        smi = self.bin / "nvidia-smi"
        for text, why in ((None, "nvidia-smi: No such file or directory"),
                          ("#!/bin/sh\necho no driver\nexit 9\n", "nvidia-smi: no driver"),
                          ("#!/bin/sh\nexec /bin/sleep 60\n", "nvidia-smi: no answer in 0.2 s")):
            with self.subTest(why), mock.patch.object(gpu_machine, "PATIENCE", 0.2):
                if text:
                    self.script(smi, text)
                found = gpu_machine.machine()
                self.assertEqual((found["gpus"], found["why"]), ([], why))
                self.assertEqual(gpu_machine.line(found), f"no GPU known: {why}")
                with gpu_machine.Sampler() as sampler:
                    self.assertEqual(sampler.summary(), [])


# What a test may do: it takes the name of one, and tells its process to the file that is $HUNG.
TEST = r"""#!/bin/sh
case $1 in
  passes) echo "the largest difference is 1e-7"; echo "quick: $PTB_DIST_TEST_QUICK" ;;
  fails) echo wrong; exit 3 ;;
  skipped) echo "skipped: no GPU"; exit 77 ;;
  hangs)  # with a rank in a session of its own; neither can be interrupted
    trap '' INT
    setsid sh -c 'trap "" INT; echo $$ >>"$HUNG"; while :; do sleep 60; done' &
    echo $$ >>"$HUNG"
    echo begun
    while :; do sleep 60; done ;;
  leaves) sh -c 'echo $$ >>"$HUNG"; exec sleep 60' & while ! [ -s "$HUNG" ]; do sleep 0.01; done ;;
esac
"""


def is_alive(process):
    """Those whose parent has ended may stay as zombies where nobody is there to bury them."""
    try:
        stat = pathlib.Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Suite(TestCase):
    def setUp(self):
        super().setUp()
        self.script(self.bin / "nvidia-smi", NVIDIA_SMI)
        self.support = self.scratch / "tests/gpu"
        self.support.mkdir(parents=True)
        for name in ("gpu_suite.py", "gpu_machine.py", "gpu_process.py"):
            shutil.copy(HERE / name, self.support)
        self.script(self.scratch / "bin/a_test", TEST)
        self.hung, self.file = self.scratch / "hung", self.scratch / "rows.jsonl"

    def suite(self, *tests, flags=(), timeout=60):
        """(exit status, its output, rows of its file)"""
        listed = [dict(name=name, command=["@BUNDLE@/bin/a_test", name],
                       properties=[dict(name="TIMEOUT", value=timeout),
                                   dict(name="SKIP_RETURN_CODE", value=77)]) for name in tests]
        (self.support / "gpu_suite.json").write_text(json.dumps(dict(tests=listed)))
        ended = subprocess.run([sys.executable, self.support / "gpu_suite.py", "--json", self.file,
                                *flags], env={**os.environ, "HUNG": str(self.hung)}, text=True,
                               capture_output=True, timeout=60)
        self.assertEqual(ended.stderr, "")
        return (ended.returncode, ended.stdout,
                [json.loads(line) for line in self.file.read_text().splitlines()])

    def assert_none_is_left(self, count):
        found = self.hung.read_text().split()
        self.assertEqual(len(found), count)
        self.assertEqual([process for process in found if is_alive(process)], [])

    def test_what_became_of_each(self):
        status, out, rows = self.suite("passes", "fails", "skipped")
        self.assertEqual(status, 1)
        self.assertRegex(out, r"^machine: 2 x NVIDIA H200 .*\n"
                              r"passed passes: [\d.]+ s\n"
                              r"failed fails: exit status 3\n    wrong\n"
                              r"skipped skipped: no GPU\n"
                              r"1 passed, 1 skipped, 1 failed\n$")
        machine, *tests, end = rows
        self.assertEqual(machine["gpus"][0]["driver"], "580.65.06")
        self.assertEqual([(row["name"], row["verdict"]) for row in tests],
                         [("passes", "passed"), ("fails", "failed"), ("skipped", "skipped")])
        self.assertEqual(tests[0]["output"], "the largest difference is 1e-7\nquick: \n")
        self.assertEqual(end, dict(kind="end", passed=1, skipped=1, failed=1))

    def test_fewer_runs(self):
        rows = self.suite("passes", flags=["--quick"])[2]
        self.assertIn("quick: 1\n", rows[1]["output"])

    def test_one_that_hangs_is_stopped_with_all_that_it_started(self):
        with_grace = ["--minutes", "0.2"]  # of which 0.6 s are for that
        status, out, rows = self.suite("hangs", "passes", flags=with_grace, timeout=0.5)
        self.assertEqual(status, 1)
        self.assertRegex(out, r"failed hangs: stopped after [\d.]+ s\n    begun\npassed passes: ")
        self.assert_none_is_left(2)
        self.assertEqual([row.get("verdict") for row in rows],
                         [None, "failed", "passed", None])
        self.assertEqual([gpu["samples"] > 0 for gpu in rows[1]["gpus"]], [True, True])

    def test_the_time_is_up(self):
        start = time.monotonic()
        status, out, rows = self.suite("hangs", "passes", flags=["--minutes", "0.04"])
        self.assertLess(time.monotonic() - start, 3 * 0.04 * 60)
        self.assertEqual(status, 1)
        self.assertRegex(out, r"failed hangs: stopped after (.*\n)+"
                              r"not run passes: the time was up\n"
                              r"0 passed, 0 skipped, 1 failed, 1 not run\n$")
        self.assertEqual([row.get("verdict") for row in rows],
                         [None, "failed", "not run", None])
        self.assert_none_is_left(2)

    def test_one_that_is_over_leaves_nothing_behind(self):
        self.assertEqual(self.suite("leaves")[0], 0)
        self.assert_none_is_left(1)


class Sanitizer(TestCase):
    """compute_sanitizer.sh: which kernels each of the toolkit's checks looks at."""

    def calls(self, tool, **changes):
        self.script(self.bin / "compute-sanitizer", "#!/bin/sh\necho \"$@\"\n")
        ended = subprocess.run([HERE / "compute_sanitizer.sh", tool, "/the/program"], text=True,
                               env={**os.environ, **changes}, capture_output=True, timeout=60)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        return [line.partition(" --data ")[0] for line in ended.stdout.splitlines()]

    def test_ours_alone_where_those_of_cublas_would_be_blamed(self):
        ours = " --kernel-name kns=3ptb4cuda"
        for tool, options in (("memcheck", ""), ("initcheck", ""), ("synccheck", ours),
                              ("racecheck", ours + " --racecheck-detect-level error")):
            self.assertEqual(self.calls(tool), [
                f"--tool {tool}{options} --target-processes all --error-exitcode 99 /the/program "
                f"--backend cuda --precision {precision}" for precision in ("fp32", "bf16")])

    def test_every_kernel_of_ours_has_the_name(self):
        """By its namespace."""
        sources = [path.read_text() for path in (HERE.parent.parent / "src").rglob("*.cu")]
        kernels = [source for source in sources if "__global__" in source]
        self.assertGreater(len(kernels), 5)
        for source in kernels:
            self.assertEqual(re.findall(r"^namespace (\w\S*) {", source, re.M), ["ptb::cuda"])

    def test_quickly(self):
        (call,) = self.calls("memcheck", PTB_DIST_TEST_QUICK="1")
        self.assertIn("--precision bf16", call)


if __name__ == "__main__":
    unittest.main()
