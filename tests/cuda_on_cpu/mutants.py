#!/usr/bin/env python3
"""Defects put into copies of the CUDA backend and of what calls NCCL, one at a time: does the
emulation find each of them?

    python3 mutants.py --build build [--sample] [--only WORDS]

A mutant is compiled as ptb_dist_cuda_racecheck is, linked in its place, and trains a few windows
under several schedules, on two ranks if its defect is in what calls NCCL. It is killed if a run
ends with an error, or if a loss or a norm differs from the CPU backend's. Prints each mutant and
what killed it. The exit status is 1 if a mutant survives, or if the unchanged program fails.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BACKEND = SOURCE / "src" / "backend" / "cuda"
COMM = SOURCE / "src" / "comm" / "sums"
NCCL_SIDE = ("native.cpp", "nccl_communicator.cpp")
sys.path.insert(0, str(SOURCE / "tests" / "program"))
import program  # noqa: E402

TARGET = "ptb_dist_cuda_racecheck"
SEEDS = (0, 1, 2, 5)
# An epoch is 16 windows, so the learning rate changes within the run. Of 206 words and 18 units the
# slabs are aligned to 16 bytes, and end within such a piece.
FLAGS = ["--data", "synthetic", "--synthetic-tokens", "2000", "--synthetic-vocab", "200",
         "--vocab-size", "206", "--hidden-size", "18", "--num-steps", "6", "--batch-size", "20",
         "--eval-lanes", "3", "--keep-prob", "0.5", "--max-epoch", "1", "--epochs", "2",
         "--max-windows", "19", "--threads", "1", "--timeout", "20"]
# For the sample, which is found in half as many: 8 an epoch.
SHORT = ["--synthetic-tokens", "1000", "--max-windows", "11"]
BOUNDS = {"fp32": 3e-6, "bf16": 2e-2}  # of a difference from the CPU backend's curve


@dataclasses.dataclass
class Mutant:
    name: str
    file: str  # of the backend, or the one that calls NCCL
    line: int  # from 1
    before: str
    after: str
    is_sample: bool = False  # made in the default suite
    precision: str = "fp32"
    cell: str = "lstm"  # whose training runs the line

    @property
    def ranks(self):
        return 2 if self.file in NCCL_SIDE else 1

    @property
    def flags(self):
        """With --comm mpi one rank, too, sums in host memory and adds the parts of its groups."""
        sums = ("--comm", "nccl") if self.ranks > 1 else ("--comm", "mpi", "--lane-groups", "4")
        return (*sums, "--cell", self.cell)


def by_pattern(name, pattern, after="", samples=(), files="*"):
    """A mutant for each place that the pattern matches; `samples` are numbers of those places."""
    found = []
    for path in sorted(BACKEND.glob(files)):
        if path.name == "launch.hpp":
            continue
        cell = "lstm"
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.split("//")[0]
            if kernel := re.match(r"\s+(\w+)_(?:forward|backward)_step\(", code):
                cell = kernel[1]
            elif line.startswith("}"):
                cell = "lstm"
            for match in re.finditer(pattern, code):
                changed = line[:match.start()] + after + line[match.end():]
                found.append(Mutant(f"{name}, {path.name}:{number}", path.name, number, line,
                                    changed, len(found) in samples, cell=cell))
    return found


def folder_of(file):
    return COMM if file == "nccl_communicator.cpp" else BACKEND


def by_text(name, file, before, after, is_sample=False, precision="fp32"):
    """One mutant; the text must be there once."""
    lines = (folder_of(file) / file).read_text().splitlines()
    places = [n for n, line in enumerate(lines, 1) if before in line]
    if len(places) != 1:
        raise RuntimeError(f"{name}: {len(places)} lines of {file} have {before!r}")
    line = lines[places[0] - 1]
    return [Mutant(f"{name}, {file}:{places[0]}", file, places[0], line,
                   line.replace(before, after), is_sample, precision)]


def all_mutants():
    return [
        *by_pattern("a barrier is missing", r"__syncthreads\(\);", samples=(0, 2)),
        *by_pattern("an event is not waited for", r"check\(cudaStreamWaitEvent\(.*\)\);",
                    samples=(0,)),
        *by_pattern("a stream does not wait for another",
                    r"\b(fork|join)\(\);|\bqueue\(.*\.wait_for\(.*\);", after=";", files="*.cu",
                    samples=(1,)),
        *by_text("streams share a workspace of cuBLAS", "products.cu",
                 'allocate_device(workspace_bytes(generation), "the workspace of cuBLAS")',
                 "[&] { static const auto shared = "
                 "allocate_device(workspace_bytes(generation), \"\"); return shared; }()",
                 is_sample=True),
        *by_text("cuBLAS has no workspace of its own", "products.cu",
                 "check(cublasSetWorkspace(cublas_.get(), workspace_.get(), "
                 "workspace_bytes(generation)));", ""),
        *by_pattern("a bound is not checked", r"if \(index >= [^)]*\) return;", samples=(0,)),
        *by_text("a bound is not checked", "optimizer.cu", "if (k < n) to[k]", "to[k]"),
        *by_text("a bound is not checked", "products.cu", "if (k < n) to[k]", "to[k]",
                 precision="bf16"),
        *by_text("a bound of four is not checked", "optimizer.cu",
                 "is_aligned && first + kStepWidth <= n", "is_aligned && first < n"),
        *by_text("a bound is not checked", "optimizer.cu", "first + kStepWidth && k < n",
                 "first + kStepWidth"),
        # Not made: embedding.cu without `u >= *count`. What rows beyond the count get has no
        # meaning.
        *by_text("a row too many is stepped", "optimizer.cu", "u >= *g.count || ", ""),
        *by_text("a column too many is summed", "softmax.cu",
                 "if (threadIdx.y != 0 || column >= columns) return;",
                 "if (threadIdx.y != 0) return;"),
        *by_text("fresh memory is not zeroed", "cuda_backend.cpp", "set_zero(tensor);", ";"),
        *by_text("what came from the window before is added", "stack.cu",
                 "s.is_last ? d_h : d_h", "d_h"),
        # Not made: staging.cpp without cudaStreamSynchronize. No window downloads by it; the tests
        # of operations read all that they compare that way.
        *by_text("a result is read before it is there", "cuda_backend.cpp",
                 ".event = record()};", ".event = nullptr};"),
        *by_text("a staged part is overwritten early", "staging.cpp",
                 "std::min(kHalfBytes, (used_ + bytes + kAlignment - 1) / kAlignment * kAlignment)",
                 "0"),
        *by_text("the learning rate is baked into the graph", "cuda_backend.cpp",
                 "staging_.upload(step_.get(),",
                 "if (segments_.size() < 2) staging_.upload(step_.get(),", is_sample=True),
        *by_text("the target's logit is read late", "softmax.cu",
                 "static_cast<double>(target_logit);", "static_cast<double>(row[target]);"),
        *by_text("an answer is left as the last error", "handles.cpp",
                 'cudaGetLastError();  // "not ready"', '// "not ready"', is_sample=True),
        *by_text("an event is asked for within a capture", "queue.cpp",
                 "check(cudaEventRecord(", "has_happened(reached_.get()); check(cudaEventRecord("),
        *by_text("the step does not wait for a sum", "nccl_communicator.cpp",
                 "owner.backend_.wait(over);", ";", is_sample=True),
        *by_text("an event is recorded before its sum is on the stream", "nccl_communicator.cpp",
                 "poll([&] { return state(what) == ncclSuccess; }, what);", ""),
        *by_text("ranks sum in different orders", "nccl_communicator.cpp",
                 "gathered_.push_back(sum);", "gathered_.insert(session_.rank() == 1 ? "
                 "gathered_.begin() : gathered_.end(), sum);"),
    ]


class Workshop:
    """Compiles and links mutants as the build does."""

    def __init__(self, build, scratch):
        self.build, self.scratch = build, scratch
        commands = json.loads((build / "compile_commands.json").read_text())
        self.compile = {}  # name of a source -> (arguments, folder, object)
        for entry in commands:
            arguments = shlex.split(entry["command"])
            target = arguments[arguments.index("-o") + 1]
            if f"{TARGET}_backend.dir" in target or "ptb_dist_nccl_on_cpu.dir" in target:
                self.compile[pathlib.Path(entry["file"]).name] = (arguments, entry["directory"],
                                                                  target)
        self.link = self.link_command()

    def link_command(self):
        made_by_make = list(self.build.rglob(f"{TARGET}.dir/link.txt"))
        if made_by_make:
            return shlex.split(made_by_make[0].read_text()), made_by_make[0].parents[2]
        shown = subprocess.run(["ninja", "-C", str(self.build), "-t", "commands", TARGET],
                               capture_output=True, text=True, check=True).stdout
        command = shown.strip().splitlines()[-1]
        return shlex.split(command.removeprefix(": && ").removesuffix(" && :")), self.build

    def make(self, mutant):
        """The program with the mutant in it."""
        original = folder_of(mutant.file)
        copy = self.scratch / original.relative_to(SOURCE)
        shutil.rmtree(self.scratch / "src", ignore_errors=True)
        shutil.copytree(original, copy)
        lines = (original / mutant.file).read_text().splitlines()
        assert lines[mutant.line - 1] == mutant.before
        lines[mutant.line - 1] = mutant.after
        (copy / mutant.file).write_text("\n".join(lines) + "\n")
        replaced = {}
        for source in self.sources_of(mutant.file):
            arguments, folder, target = self.compile[source]
            made = self.scratch / f"{source}.o"
            replaced[target] = str(made)
            changed = [str(copy / source) if a.endswith(f"/{copy.name}/{source}") else
                       str(made) if a == target else a for a in arguments]
            # Less is unused now, which is no defect; -O1 compiles in half the time.
            subprocess.run([changed[0], f"-I{self.scratch}/src", *changed[1:], "-w", "-O1"],
                           cwd=folder, check=True)
        arguments, folder = self.link
        linked = [replaced.get(a, a) for a in arguments]
        linked[linked.index("-o") + 1] = str(self.scratch / TARGET)
        subprocess.run(linked, cwd=folder, check=True)
        return self.scratch / TARGET

    def sources_of(self, file):
        if file in self.compile:
            return [file]
        return [name for name in self.compile
                if f'"backend/cuda/{file}"' in (folder_of(name) / name).read_text()]


def curve(executable, scratch, *flags, seed=0, ranks=1):
    """Losses and norms, or what the run said when it failed."""
    run_dir = scratch / "run"
    shutil.rmtree(run_dir, ignore_errors=True)
    ended = program.run([*FLAGS, *flags, "--metrics-windows", "1", "--run-dir", str(run_dir)],
                        executable, ranks=ranks, timeout=300,
                        changes=dict(CUDA_ON_CPU_SEED=str(seed), CUDA_ON_CPU_DEVICES=str(ranks)))
    if ended.status != 0:
        return (ended.err.strip().splitlines() or [f"exit status {ended.status}"])[0]
    return [(w["loss"], w["gradient_norm"]) for w in program.records(run_dir, "window")]


class Court:
    """Tells mutants from the program as it is, whose curve on the CPU backend they should have."""

    def __init__(self, original, scratch, flags):
        self.original, self.scratch, self.flags = original, scratch, flags
        self.expected = {}  # by cell
        self.passed = set()  # schedules, with their flags, in which the program as it is was tried

    def verdict(self, executable, mutant, seed):
        """What is wrong with it in this schedule, or nothing."""
        found = curve(executable, self.scratch, *self.flags, "--backend", "cuda", "--precision",
                      mutant.precision, *mutant.flags, seed=seed, ranks=mutant.ranks)
        if isinstance(found, str):
            return f"seed {seed}: {found}"
        if mutant.cell not in self.expected:
            self.expected[mutant.cell] = curve(self.original, self.scratch, *self.flags, "--cell",
                                               mutant.cell, "--backend", "cpu")
        worst = max(program.relative_difference(a, b)
                    for pair in zip(found, self.expected[mutant.cell], strict=True)
                    for a, b in zip(*pair))
        if not worst <= BOUNDS[mutant.precision]:
            return f"seed {seed}: the curve differs by {worst:.1e}"
        return None

    def killer(self, executable, mutant):
        """What finds the defect, or None. A failure that the unchanged program has too is none."""
        for seed in SEEDS:
            tried = (mutant.precision, mutant.flags, seed)
            if tried not in self.passed:
                if complaint := self.verdict(self.original, mutant, seed):
                    sys.exit(f"the program as it is fails: {complaint}")
                self.passed.add(tried)
            if found := self.verdict(executable, mutant, seed):
                return found
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--sample", action="store_true", help="only those of the default suite")
    parser.add_argument("--only", default="", help="mutants whose name has these words")
    args = parser.parse_args()
    mutants = [m for m in all_mutants() if args.only in m.name and (m.is_sample or not args.sample)]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="ptb_dist_mutants_") as folder:
        scratch = pathlib.Path(folder)
        court = Court(args.build / TARGET, scratch, SHORT if args.sample else [])
        workshop = Workshop(args.build, scratch)
        for mutant in mutants:
            found = court.killer(workshop.make(mutant), mutant)
            survivors += found is None
            print(f"{mutant.name}: {'SURVIVES' if found is None else found}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
