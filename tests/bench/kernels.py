#!/usr/bin/env python3
"""Registers, shared memory and occupancy of every CUDA kernel, by nvcc's own report.

    python3 kernels.py --build build    # a build with PTB_DIST_CUDA; prints a table for RESULTS.md

Needs nvcc and no GPU. Each .cu file is compiled once more, as the build does, for sm_80 and sm_90.
The exit status is 1 if a kernel spills registers or has a stack in memory.
"""

import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ARCHITECTURES = ("sm_80", "sm_90")
# Of a multiprocessor, both architectures alike: registers, given out by 256 to a warp; threads;
# blocks. Shared memory limits none of our kernels.
REGISTERS, REGISTER_UNIT, THREADS, BLOCKS, LANES = 65536, 256, 2048, 32, 32

REPORT = re.compile(
    r"Compiling entry function '(?P<symbol>\w+)' for '(?P<architecture>sm_\d+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)", re.S)


def compile_commands(build):
    """(file, arguments, folder) of each .cu file of the backend that nvcc compiles."""
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = pathlib.Path(entry["file"])
        arguments = shlex.split(entry["command"])
        # The second is the compiler if the first is a launcher, such as ccache.
        programs = [pathlib.Path(argument).name for argument in arguments[:2]]
        if source.suffix == ".cu" and source.parent.name == "cuda" and "nvcc" in programs:
            yield source, arguments, entry["directory"]


def reports(source, arguments, folder, scratch):
    kept = [a for a in arguments if not a.startswith(("--generate-code", "-gencode"))]
    kept[kept.index("-o") + 1] = str(scratch / "kernel.o")
    codes = [f"-gencode=arch=compute_{a[3:]},code={a}" for a in ARCHITECTURES]
    done = subprocess.run([*kept, *codes, "-Xptxas=-v"], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return [match.groupdict() for match in REPORT.finditer(done.stderr + done.stdout)]


def kernel_name(symbol):
    """forward_step, or add_elements<float>, of a mangled name: the last of its nested names."""
    rest, name = re.sub(r"^_ZN", "", symbol), ""
    while digits := re.match(r"\d+", rest):
        length = int(digits[0])
        name, rest = rest[digits.end():][:length], rest[digits.end() + length:]
    argument = re.match("I([fd])E", rest)
    return f"{name}<{dict(f='float', d='double')[argument[1]]}>" if argument else name


def block_threads(source, name):
    """The bound that the kernel declares, or 1."""
    text = source.read_text() + (source.parent / "reduce.hpp").read_text()
    bound = re.search(rf"__launch_bounds__\(([^)]*)\)\s+{name.partition('<')[0]}\(", text)
    if bound is None:
        return 1
    constants = dict(re.findall(r"(\w+) = (\d+)", text))
    threads = 1
    for factor in bound[1].split("*"):
        threads *= int(constants[factor.strip()])
    return threads


def occupancy(registers, threads):
    """Part of the threads that a multiprocessor can hold."""
    warps = -(-threads // LANES)
    per_warp = -(-registers * LANES // REGISTER_UNIT) * REGISTER_UNIT
    blocks = min(BLOCKS, THREADS // (warps * LANES), REGISTERS // (per_warp * warps))
    return blocks * warps * LANES / THREADS


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    args = parser.parse_args()
    rows, spills = {}, []
    with tempfile.TemporaryDirectory(prefix="ptb_dist_kernels_") as scratch:
        for source, arguments, folder in compile_commands(args.build):
            for report in reports(source, arguments, folder, pathlib.Path(scratch)):
                name = kernel_name(report["symbol"])
                threads = block_threads(source, name)
                shared = re.search(r"(\d+) bytes smem", report["rest"])
                rows.setdefault((source.name, name, threads), {})[report["architecture"]] = (
                    int(report["registers"]), int(shared[1]) if shared else 0)
                if any(int(report[k]) for k in ("stack", "stores", "loads")):
                    spills.append(f"{name} for {report['architecture']} spills or has a stack")
    print("| kernel | file | threads | shared bytes | registers sm_80 / sm_90 | occupancy |")
    print("|---|---|---|---|---|---|")
    for (file, name, threads), found in sorted(rows.items()):
        registers = [found[a][0] for a in ARCHITECTURES]
        parts = " / ".join(f"{100 * occupancy(r, threads):.0f} %" for r in registers)
        print(f"| {name} | {file} | {threads} | {found['sm_90'][1]} | "
              f"{' / '.join(map(str, registers))} | {parts} |")
    print("\n".join(spills) if spills else "\nNo kernel spills registers or has a stack.")
    return 1 if spills else 0


if __name__ == "__main__":
    sys.exit(main())
