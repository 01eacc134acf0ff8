#!/usr/bin/env python3
"""Do the bits change only where kNumerics (include/ptb_dist/base/numerics.hpp) does?

    /usr/bin/python3 numerics_test.py --units ptb_dist_unit_digests... --program ptb_dist CLASS

pinned.json holds digests of what was computed when the number was last raised, one row for each
combination of what decides about bits. For our own operations (Loops) and for trainings in bf16
with portable products (Portable) that is the loops' instruction set, the compiler and the
mathematical library. In whole trainings (Training), in fp32 and where the processor has it in bf16,
oneDNN multiplies: its version and instruction set count, too, and the processor and its caches,
because oneDNN may choose its blocks by them. On the emulation of CUDA (OnCuda) the processor
decides nothing. A machine that pinned.json does not know is skipped, and the test prints the row to
add; --record adds it, or begins a new file if the number has changed.

If digests differ on purpose, raise kNumerics and record. If not, the commit is at fault.
"""

import argparse
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(SOURCE / "tests/program")]
import program  # noqa: E402

PINNED = pathlib.Path(__file__).parent / "pinned.json"
TEXT = ["--data", "synthetic", "--synthetic-tokens", "2000", "--synthetic-vocab", "60",
        "--vocab-size", "60", "--hidden-size", "18", "--num-steps", "6", "--batch-size", "7",
        "--eval-lanes", "3", "--threads", "1", "--epochs", "1"]
# Each to the end of an epoch, with validation and test.
RUNS = {"training": [*TEXT, "--num-layers", "2"],
        "training with dropout in lane groups": [*TEXT, "--num-layers", "1", "--keep-prob", "0.5",
                                                 "--lane-groups", "4"]}


class Numerics(program.TestCase):
    units = []
    limited = None
    is_recording = False

    @staticmethod
    def facts(unit, changes=None):
        ended = subprocess.run([unit], capture_output=True, text=True, check=True,
                               env=program.environment(changes))
        return json.loads(ended.stdout)

    def compare(self, key, numerics, digests):
        pinned = json.loads(PINNED.read_text())
        if self.is_recording:
            record(pinned, key, numerics, digests)
            return
        self.assertEqual(pinned["numerics"], numerics,
                         f"{PINNED} is of another kNumerics: begin it anew with --record")
        if key not in pinned["digests"]:
            self.skipTest(f"not known: {key}; --record adds it to {PINNED.name}: "
                          f"{json.dumps({key: digests})}")
        changed = [part for part, digest in digests.items()
                   if pinned["digests"][key].get(part) != digest]
        if changed:
            self.fail(f"the bits of {', '.join(changed)} have changed, and kNumerics is still "
                      f"{numerics}: raise it if that is meant, and record ({key})")

    def trained(self, binary, changes, *flags):
        """Digests of what the runs end with: parameters, state, sums of losses, perplexities."""
        digests = {}
        for number, (name, arguments) in enumerate(RUNS.items()):
            run_dir = self.scratch / f"run{number}"
            ended = program.run([*arguments, *flags, "--run-dir", str(run_dir),
                                 "--checkpoint-windows", "40"], binary, cwd=self.scratch,
                                changes=changes, timeout=150)
            self.assertEqual(ended.status, 0, ended.err)
            digest = hashlib.sha256()
            for path in sorted(run_dir.glob("checkpoints/g*.h5")):
                add_checkpoint(digest, path)
            digest.update(perplexities(run_dir).encode())
            digests[name] = digest.hexdigest()[:32]
        return digests


def record(pinned, key, numerics, digests):
    known = pinned["digests"] if pinned["numerics"] == numerics else {}
    rows = dict(sorted({**known, key: digests}.items()))
    PINNED.write_text(json.dumps({"numerics": numerics, "digests": rows}, indent=2) + "\n")


def add_checkpoint(digest, path):
    """Numbers of the run; no name of a library, and no byte that HDF5 chooses."""
    import h5py  # of Debian's own interpreter

    with h5py.File(path) as file:
        def add(name, item):
            if isinstance(item, h5py.Dataset) and name.startswith(("parameters/", "state/")):
                digest.update(name.encode() + item[()].tobytes())
        file.visititems(add)
        for name in ("epoch", "window", "step", "cross_entropy"):
            digest.update(name.encode() + file["progress"].attrs[name].tobytes())


def perplexities(run_dir):
    """To nine digits, which a last bit of the exponential in double does not reach."""
    return "".join(f"{record['split']} {record['perplexity']}\n"
                   for record in program.records(run_dir)
                   if record["kind"] in ("epoch", "test"))


def processor():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = [re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE)
             for name in ("vendor_id", "cpu family", "model")]
    return " ".join(match[1] if match else "?" for match in found)


class Loops(Numerics):
    """Our own loops and operations, in each variant that this machine can run."""

    def test_own_operations(self):
        for unit in self.units:
            facts = self.facts(unit)
            with self.subTest(facts["loops"]):
                key = "{loops}, {compiler}, {library}".format(**facts)
                self.compare("operations: " + key, facts["numerics"], facts["digests"])


class Training(Numerics):
    """Whole trainings, by the instruction set of the machine and by AVX2."""

    def check(self, unit, binary, changes, precision="fp32"):
        facts = self.facts(unit, changes)
        key = "{loops}, {products}, {compiler}, {library}, caches {caches}".format(**facts)
        key = f"CPU{'' if precision == 'fp32' else f' {precision}'}: {key}, {processor()}"
        self.compare(key, facts["numerics"], self.trained(binary, changes, "--backend", "cpu",
                                                          "--precision", precision))

    def test_of_this_machine(self):
        self.check(self.units[0], self.program, {})

    def test_of_its_bf16(self):
        if self.facts(self.units[0])["bf16"]:
            self.check(self.units[0], self.program, {}, "bf16")

    def test_of_avx2(self):
        if len(self.units) == 1:
            self.skipTest("this build has no program that is limited to AVX2")
        self.check(self.units[1], self.limited, {"DNNL_MAX_CPU_ISA": "AVX2"})


class Portable(Numerics):
    def test_in_bf16(self):
        facts = self.facts(self.units[0])
        key = "{loops}, {compiler}, {library}".format(**facts)
        self.compare("portable bf16: " + key, facts["numerics"],
                     self.trained(self.program, {}, "--backend", "cpu", "--precision", "bf16"))


class OnCuda(Numerics):
    def test_on_the_emulation(self):
        facts = self.facts(self.units[0])
        key = "{compiler}, {library}".format(**facts)
        self.compare("CUDA on the CPU: " + key, facts["numerics"],
                     self.trained(self.program, {}, "--backend", "cuda", "--precision", "fp32"))


def main():
    parser = argparse.ArgumentParser(add_help=False)
    program.add_arguments(parser)
    absolute = lambda path: pathlib.Path(path).resolve()  # noqa: E731
    parser.add_argument("--units", nargs="+", type=absolute, required=True)
    parser.add_argument("--limited", type=absolute, help="the program for AVX2")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("tests", nargs="*", help="of unittest: a class")
    args = parser.parse_args()
    program.TestCase.program, Numerics.limited = args.program, args.limited
    Numerics.units, Numerics.is_recording = args.units, args.record
    result = unittest.main(argv=["test", *args.tests], exit=False, verbosity=2).result
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(program.SKIPPED if result.skipped else 0)


if __name__ == "__main__":
    main()
