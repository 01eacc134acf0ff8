#!/usr/bin/env python3
"""gpu_suite.py and gpu_machine.py, with scripts in the places of tests and of nvidia-smi.

    python3 gpu_suite_test.py [unittest's arguments]
"""

import os
import pathlib
import tempfile
import time
import unittest
from unittest import mock

import gpu_machine

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
case $* in *--loop-ms*) exec sleep 60 ;; esac
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
        self.script(self.bin / "nvidia-smi", NVIDIA_SMI)
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


if __name__ == "__main__":
    unittest.main()
