#!/usr/bin/python3
"""A checkpoint as other tools see it: h5py, h5ls, and a program that computes its digest.

    /usr/bin/python3 checkpoint_h5py_test.py --program build/ptb_dist [unittest's arguments]
"""

import pathlib
import re
import subprocess
import sys
import tempfile

import h5py
import numpy as np

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(SOURCE / "tests/program"), str(SOURCE / "tests/support")]
import program  # noqa: E402
from forged_checkpoint import sealed  # noqa: E402

V, H, L, B = 40, 6, 2, 4
FLAGS = ["--data", "synthetic", "--synthetic-tokens", "600", "--synthetic-vocab", "30",
         "--vocab-size", str(V), "--hidden-size", str(H), "--num-layers", str(L),
         "--num-steps", "5", "--batch-size", str(B), "--eval-lanes", "2",
         "--keep-prob", "0.75", "--seed", "11", "--threads", "1"]
WINDOWS = (600 // B - 1) // 5  # of an epoch


class Checkpoint(program.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="ptb_dist_h5py_")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        # One epoch and three windows: a history of one entry, and a state from within an epoch.
        ended = program.run([*FLAGS, "--run-dir", "run", "--max-windows", str(WINDOWS + 3),
                             "--save-parameters", "parameters.h5"], cls.program, cwd=cls.folder)
        if ended.status != 0:
            raise AssertionError(ended.out + ended.err)
        cls.path, = cls.folder.glob(f"run/checkpoints/g*-step-{WINDOWS + 3:08}.h5")

    def setUp(self):
        super().setUp()
        self.file = h5py.File(self.path)
        self.addCleanup(self.file.close)

    def test_objects_and_shapes(self):
        found = {}
        self.file.visititems(lambda name, item: found.update({name: getattr(item, "shape", None)}))
        expected = {"parameters/embedding": (V, H), "parameters/softmax/weight": (H, V),
                    "parameters/softmax/bias": (V,), "vocabulary": self.file["vocabulary"].shape}
        for layer in range(L):
            expected |= {f"parameters/lstm/{layer}/kernel": (2 * H, 4 * H),
                         f"parameters/lstm/{layer}/bias": (4 * H,),
                         f"state/lstm/{layer}/h": (B, H), f"state/lstm/{layer}/c": (B, H)}
        expected |= {f"history/{name}": (1,) for name in ("learning_rate", "train", "valid")}
        self.assertEqual({name: shape for name, shape in found.items() if shape is not None},
                         expected)
        for name in expected:
            kind = {"h": "<f8", "v": "u1"}.get(name[0], "<f4")
            self.assertEqual(self.file[name].dtype, np.dtype(kind), name)

    def test_attributes(self):
        self.assertEqual(self.file.attrs["format"], 1)
        self.assertEqual(self.file.attrs["gate_order"], b"i j f o")
        lines = self.file.attrs["exact_class"].decode().splitlines()
        self.assertIn("ranks = 1", lines)
        config = self.file["config"].attrs
        for name, value in (("seed", 11), ("batch_size", B), ("keep_prob", 0.75), ("num_steps", 5)):
            self.assertEqual(config[name], value)
        self.assertNotIn("max_max_epoch", config)
        progress = self.file["progress"].attrs
        self.assertEqual((progress["epoch"], progress["window"], progress["step"]),
                         (1, 3, WINDOWS + 3))
        self.assertEqual(progress["best_epoch"], 0)
        self.assertEqual(progress["best_valid"], self.file["history/valid"][0])
        self.assertGreater(progress["cross_entropy"], 0)

    def test_vocabulary(self):
        text = self.file["vocabulary"][:].tobytes().decode()
        words = text.splitlines()
        self.assertTrue(text.endswith("\n") and "" not in words)
        self.assertIn("<unk>", words)
        self.assertEqual(len(set(words)), 30)
        self.assertEqual(self.file["vocabulary"].attrs["train_tokens"], 600)
        self.assertRegex(self.file["vocabulary"].attrs["valid_xxh3_128"].decode(), "^[0-9a-f]{32}$")

    def test_values(self):
        with h5py.File(self.folder / "parameters.h5") as saved:
            names = []
            saved.visit(lambda name: names.append(name) if hasattr(saved[name], "shape") else None)
            self.assertEqual(len(names), 3 + 2 * L)
            for name in names:
                self.assertTrue(np.array_equal(saved[name][:], self.file[name][:]), name)
        for layer in range(L):
            hidden, cell = (self.file[f"state/lstm/{layer}/{which}"][:] for which in "hc")
            self.assertTrue(np.all(np.abs(hidden) < 1) and np.any(hidden != 0))
            # h = σ(o)·tanh(c): of the same sign, and smaller.
            self.assertTrue(np.all(hidden * cell >= 0) and np.all(np.abs(hidden) <= np.abs(cell)))

    def test_nothing_of_it_is_of_this_machine(self):
        content = self.path.read_bytes()
        self.assertNotIn(str(self.folder).encode(), content)

    def test_the_text_at_its_beginning(self):
        content = self.path.read_bytes()
        match = re.fullmatch(rb"ptb_dist checkpoint\nformat = 1\nbytes = (\d+)\n"
                             rb"xxh3_128 = ([0-9a-f]{32})\nstep = (\d+)\n\0+", content[:512])
        self.assertIsNotNone(match)
        self.assertEqual(int(match[1]), len(content))
        self.assertEqual(int(match[3]), WINDOWS + 3)
        self.assertEqual(sealed(content), content)  # computed by Python's xxhash

    def test_h5ls_lists_it(self):
        listed = subprocess.run(["h5ls", "-r", self.path], capture_output=True, text=True,
                                check=True)
        self.assertRegex(listed.stdout, rf"/parameters/embedding +Dataset {{{V}, {H}}}")
        self.assertEqual(listed.stderr, "")


if __name__ == "__main__":
    program.run_tests()
