#!/usr/bin/env python3
"""tests/bench/gpu.sh from end to end, without a GPU: on the emulation, with tiny shapes, and with
small programs in the place of PyTorch, ncu, compute-sanitizer, and of whatever is to hang.

    python3 gpu_test.py --program build/ptb_dist_cuda_on_cpu [unittest's arguments]

The figures mean nothing here. Tested is that it measures, that it names what it could not measure,
and that it ends in time if something hangs.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import unittest
import zipfile
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "program"), str(HERE.parent / "gpu")]
import gpu_process  # noqa: E402
import gpu_session  # noqa: E402
import program  # noqa: E402

# In the place of an interpreter with torch: it takes 2 ms a window, but for graphs in bf16.
PEER = """#!/usr/bin/env python3
import json, sys, time
print("a remark of a library")
print(json.dumps({"torch": "0.0"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["variant"] == "graph_bf16":
        request["why"] = "out of memory"
    elif request["variant"] == "eager_bf16" and "--die" in sys.argv[0]:
        sys.exit(3)
    elif [request["variant"], request["model"], "--hang" in sys.argv[0]] == [
            "graph_tf32", "small", True]:
        time.sleep(1000)
    else:
        request["milliseconds"] = 2.0
    print(json.dumps(request), flush=True)
"""
PHASES = ["copies of the weights", "forward", "softmax, backward", "recurrence, backward",
          "layer 1, backward", "layer 0, backward", "embedding, backward", "clip and step", "all"]
NO_TORCH = """#!/bin/sh
exec python3 -I -S "$@"
"""
# hang WHAT: a process that only waits, one that does not end when it is asked to, or one whose
# children keep its output open, in a session of their own too. HANGS names what hangs, and how.
HANG = r"""#!/bin/sh
hang() {
  case ",$HANGS," in
    *",$1:stubborn,"*) trap '' TERM INT; while :; do sleep 1000; done ;;
    *",$1:children,"*) sleep 1000 & setsid sleep 1000 & sleep 1000 ;;
    *",$1:sleep,"*) exec sleep 1000 ;;
  esac
}
"""
# In the place of ptb_dist, and of the two tools under their names.
FAKE = HANG + r"""
config= precision= dir= what= windows=
for word; do
  case $last in
    --config) config=$word ;; --precision) precision=$word ;; --run-dir) dir=$word ;;
    --what) what=$word ;; --max-windows) windows=$word ;; --keep-checkpoints) keep=$word ;;
  esac
  last=$word
done
case ${0##*/} in
  *floors)
    echo "{\"kind\":\"floor\",\"floor\":\"$what\",\"value\":1,\"unit\":\"us\",\"what\":\"\"}"
    hang "$what" ;;
  *phases)
    hang "phases-$config-$precision"
    case $* in
      *--mark*) echo '{"kind":"mark","phase":"all"}' ;;
      *) echo '{"kind":"phase","phase":"all","milliseconds":1}' ;;
    esac ;;
  *)
    case $* in
      *--version*) hang version; echo 'ptb_dist 0' ;;
      *--dry-run*) echo plan ;;
      *)
        [ "$keep" = 0 ] || exit 3
        mkdir -p "$dir"
        exec >"$dir/metrics.jsonl"
        if [ -n "$windows" ]; then
          hang "step-$precision"
          echo '{"kind":"progress","window":0,"seconds":0}'
          echo '{"kind":"progress","window":10,"seconds":1}'
          exit
        fi
        for epoch in 1 2 3; do
          echo '{"kind":"epoch","split":"train","perplexity":90,"seconds":10}'
          echo '{"kind":"epoch","split":"valid","seconds":1,"perplexity":'$((125 - epoch))'}'
        done
        hang "training-$config"
        echo '{"kind":"test","weights":"final","perplexity":78.2,"seconds":1}' ;;
    esac ;;
esac
"""
# In the place of the GPU suite's tests: one fails.
SUITE = HANG + r"""
echo "test $1, $PTB_DIST_REQUIRE, $PTB_DIST_TEST_QUICK"
hang "$1"
[ "$1" != gpu_trainer ]
"""
SUITE_TESTS = [f"gpu_{name}" for name in ("operations", "model", "trainer", "ranks", "memcheck",
                                          "racecheck", "initcheck", "synccheck")]
# A GPU that its limit of power slows down; or it does not answer.
NVIDIA_SMI = HANG + r"""
hang nvidia-smi
case $1 in
  *--query-gpu=name*) echo 'H200, GPU-1, 580.65, 143771, 1980, 3201, 700.00, Default, [N/A]' ;;
  *index*) echo '0, 100, 1410, 3201, 699.50, 60, 0x4' ;;
  *) echo 0x0 ;;
esac
case $* in *--loop-ms*) sleep 0.02; exec "$0" "$@" ;; esac
"""
KILLED_AT_A_START = """
import os, signal, subprocess
class Popen(subprocess.Popen):
    def __init__(self, command, *more, **named):
        super().__init__(command, *more, **named)
        if "gpu_operations" in command:
            os.kill(os.getpid(), signal.SIGTERM)
subprocess.Popen = Popen
"""
# The program that it is given, then what ncu would have written of it: in each phase a mark and two
# kernels, and one before them.
NCU = HANG + r"""
while [ "$1" != --log-file ]; do shift; done
log=$2
shift 2
id=0
kernel() {
  echo "\"$id\",\"$1\",\"gpu__time_duration.sum\",\"ns\",\"1,500\""
  echo "\"$id\",\"$1\",\"dram__bytes_read.sum\",\"byte\",\"2,000,000\""
  id=$((id + 1))
}
"$@" >"$log.out"
cat "$log.out"
{
  echo '==PROF== Connected'
  echo '"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"'
  kernel 'void ptb::cuda::(anonymous namespace)::look_up(float*, long)'
  grep mark "$log.out" | while read -r _; do
    kernel 'void ptb::cuda::<unnamed>::add_elements<double>(double *, const double *, long)'
    kernel 'void ptb::cuda::<unnamed>::forward_step(ptb::cuda::<unnamed>::ForwardStep, long)'
    kernel 'nvjet_sm90_tst_64x8'
    kernel 'nvjet_sm90_tst_64x8'
    id=$((id + 100))
  done
} >"$log"
case $* in *' large '*bf16*) hang ncu ;; esac
case $* in *' small '*bf16*) echo '==ERROR== ERR_NVGPUCTRPERM - No permission' >"$log" ;; esac
"""
SANITIZER = r"""#!/bin/sh
while [ "$1" != --error-exitcode ]; do shift; done
shift 2
exec "$@"
"""
FILES = {"rows.jsonl", "tables.md", "log.txt", "suite.txt", "metrics.zip", "kernels.zip"}


def step(variant, turn, speed, model="large", lanes=20):
    return dict(kind="step", model=model, lanes=lanes, variant=variant, round=turn,
                words_per_second=speed, milliseconds=700_000 / speed)


class Gpu(program.TestCase):
    def gpu(self, command, *flags, status=0, is_tiny=True, **variables):
        """Its rows and its tables."""
        file = self.scratch / f"{command}.jsonl"
        self.call([command, *["--tiny"] * is_tiny, "--program", str(self.program), "--json",
                   str(file), "--comm", "mpi", "--mpirun", self.mpirun, *flags], status, variables)
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        self.assertEqual(rows[0]["kind"], "machine")
        return rows, self.ended.out

    def call(self, words, status, variables):
        start = time.monotonic()
        self.ended = program.run(words, HERE / "gpu.sh", timeout=170, cwd=self.scratch,
                                 changes=self.marked(variables))
        self.seconds = time.monotonic() - start
        self.assertEqual(self.ended.status, status, self.ended.out + self.ended.err)
        self.assertEqual(self.survivors(), [])

    def marked(self, variables):
        return dict(variables, GPU_TEST=str(self.scratch))

    def survivors(self):
        """Processes of this test's calls, in whatever session."""
        mark, found = f"GPU_TEST={self.scratch}".encode(), []
        for file in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours
                if mark in file.read_bytes().split(b"\0"):
                    found.append(int(file.parent.name))
        return found

    def session(self, command, *flags, status=1, **variables):
        """The rows and the tables in its folder."""
        out = self.scratch / "out"
        self.call([command, "--out", str(out), "--suite", self.suite(), *flags], status, variables)
        self.assertLessEqual({file.name for file in out.iterdir()}, FILES)
        rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
        return rows, (out / "tables.md").read_text()

    def suite(self):
        """A list of the GPU suite's tests, in the place of which is a script."""
        test, file = self.script("suite", SUITE), self.scratch / "suite.json"
        file.write_text(json.dumps(dict(tests=[dict(name=name, command=[test, name], properties=[])
                                               for name in SUITE_TESTS])))
        return str(file)

    def fakes(self, peer="peer"):
        """Flags for programs that answer at once, and hang where HANGS says so."""
        names = ("ptb_dist", "ptb_dist_gpu_floors", "ptb_dist_gpu_phases")
        path, *_ = [self.script(name, FAKE) for name in names]
        return ["--program", path, "--data", "synthetic", "--python", self.script(peer, PEER)]

    def script(self, name, text):
        path = self.scratch / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def with_tools(self):
        """A PATH that has an ncu and an nvidia-smi."""
        self.script("ncu", NCU)
        self.script("nvidia-smi", NVIDIA_SMI)
        return dict(PATH=f"{self.scratch}:{program.environment()['PATH']}")

    def table(self, *rows):
        file = self.scratch / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        ended = program.run(["table", str(file)], HERE / "gpu.sh")
        self.assertEqual(ended.status, 0, ended.err)
        return ended.out

    def of_kind(self, rows, kind):
        return [row for row in rows if row["kind"] == kind]

    def notes(self, rows):
        return "\n".join(row["text"] for row in self.of_kind(rows, "note"))

    def check_steps(self, rows, lanes):
        found = {(row["lanes"], row["variant"]): row for row in self.of_kind(rows, "step")}
        self.assertEqual(set(found), {(lanes, variant) for variant in (
            "fp32", "tf32", "bf16", "eager_tf32", "eager_bf16", "graph_tf32")})
        for row in found.values():
            words = row["milliseconds"] / 1000 * row["words_per_second"]
            self.assertAlmostEqual(words / (6 * lanes), 1, places=2)
        self.assertEqual(found[lanes, "eager_tf32"]["milliseconds"], 2)
        return found


class OnTheEmulation(Gpu):
    def emulated(self):
        return ["--tiny", "--program", str(self.program), "--comm", "mpi"]

    def test_train(self):
        """Without a checkpoint in the way."""
        rows, out = self.session("train", *self.emulated(), "--", "--epochs", "1", status=0)
        row, = self.of_kind(rows, "train")
        self.assertEqual((row["epochs"], row["has_checkpoints"]), (1, False))
        self.assertIn("| tiny | tf32 | 1 | 1 | 1 |", out)
        with zipfile.ZipFile(self.scratch / "out/metrics.zip") as archive:
            self.assertIn(b'"kind":"test"', archive.read("tiny_tf32_seed1.jsonl"))

    def test_tools(self):
        rows, out = self.session("tools", *self.emulated(), "--precisions", "bf16",
                                 "--lanes", "4,8", "--peers", "eager_bf16",
                                 "--python", self.script("peer", PEER), status=0)
        self.assertEqual(len(self.of_kind(rows, "suite")), 5)
        self.assertEqual(list(dict.fromkeys(row["overlap"] for row in self.of_kind(rows, "phase"))),
                         ["", "piece 0", "piece 10", "queues 2", "queues 1"])
        self.assertEqual({(row["lanes"], row["variant"]) for row in self.of_kind(rows, "step")},
                         {(8, "bf16"), (8, "eager_bf16")})

    def test_first(self):
        rows, out = self.session("first", *self.emulated(), "--lanes", "8", "--python",
                                 self.script("peer", PEER), **self.with_tools())
        self.check_steps(rows, 8)
        line = re.search(r"Words/s.*?^(\| tiny \| 8 \|.*?)$", out, re.M | re.S)[1]
        self.assertRegex(line, r"^\| tiny \| 8 (\| [\d,]+ ){3}(\| 24,000 ){3}\| - \|$")
        self.assertRegex(out, r"\| tiny \| 8 \| \d+\.\d\d \| ")
        notes = self.notes(rows).splitlines()
        self.assertEqual(notes, ["pytorch graph_bf16, tiny, 8 lanes: not measured: out of memory",
                                 "grid barrier: not on the emulation"])

        floors = [row["floor"] for row in self.of_kind(rows, "floor")]
        self.assertEqual(floors, ["copy", "tf32", "bf16", "launch", "step tiny fp32",
                                  "step tiny fp32", "step tiny tf32", "step tiny tf32",
                                  "step tiny bf16", "step tiny bf16", "graphs 1", "graphs 10",
                                  "graphs 10, copies", "read 1 MB"])
        self.assertTrue(all(row["value"] > 0 for row in self.of_kind(rows, "floor")))
        products = self.of_kind(rows, "product")
        # Rows of 18 values are padded to 24, those of 72 and 200 are not.
        self.assertEqual([row["product"] for row in products if row["strides"] == "plain"][:10],
                         ["x·Wx", "x·Wx of a piece", "h·Wh", "h·W of the softmax", "d_logits·Wᵀ",
                          "hᵀ·d_logits", "d_z·Whᵀ", "d_z·Wxᵀ of a piece", "d_z·Wxᵀ", "hᵀ·d_z"])
        self.assertEqual({(row["product"], row["k"]) for row in products
                          if row["strides"] == "padded"},
                         {("x·Wx", 18), ("x·Wx of a piece", 18), ("h·Wh", 18),
                          ("h·W of the softmax", 18), ("hᵀ·d_logits", 24), ("hᵀ·d_z", 24)})
        self.assertTrue(all(row["us"] > 0 and row["us_of_two"] > 0 for row in products))
        self.assertIn("| h·Wh | 4, 72, 18 | padded |", out)

        phases = self.of_kind(rows, "phase")
        self.assertEqual([row["phase"] for row in phases if row["precision"] == "bf16"], PHASES)
        self.assertEqual({row["lanes"] for row in phases}, {8})
        self.assertRegex(out, r"\| forward( \| \d+\.\d{4}){3} \|")

        kernels = [row for row in self.of_kind(rows, "kernel") if row["precision"] == "tf32"]
        self.assertEqual([row["phase"] for row in kernels[::2]], PHASES[:-1])
        self.assertEqual([(row["kernel"], row["is_ours"], row["launches"], row["us"], row["MB"])
                          for row in kernels[2:4]],
                         [("forward_step", True, 1, 1.5, 2),
                          ("nvjet_sm90_tst_64x8", False, 2, 3, 4)])
        self.assertIn("| forward | forward_step | ours | 1 | 1.5 | 2.0 |", out)
        with zipfile.ZipFile(self.scratch / "out/kernels.zip") as archive:
            self.assertEqual(set(archive.namelist()), {"tiny_8_bf16.csv", "tiny_8_tf32.csv"})

        self.assertIn("gpu: H200 (driver 580.65, 143771 MiB, up to 1980 MHz, 700 W)", out)
        clocks = {row["case"]: row["sm_clock"] for row in self.of_kind(rows, "clocks")}
        self.assertEqual(clocks["steps, first round"], [1410, 1410, 1410])
        self.assertRegex(out, r"\| steps, first round \| 0 \| \d+ \| 1410 / 1410 / 1410 \| .* "
                              r"\| power cap: \d+ \|\n")

        self.assertEqual([(row["test"], row["verdict"]) for row in self.of_kind(rows, "suite")],
                         [("gpu_operations", "passed"), ("gpu_model", "passed"),
                          ("gpu_trainer", "failed")])
        self.assertIn("test gpu_model, gpu, 1", (self.scratch / "out/suite.txt").read_text())


def patient(test):
    """Calls it with a scale of limits: short ones, and longer where the machine was too busy."""
    def run(self):
        scales = [0.015, 0.06, 0.24]
        for scale in scales:
            shutil.rmtree(self.scratch / "out", ignore_errors=True)
            try:
                return test(self, scale)
            except AssertionError:
                if scale == scales[-1]:
                    raise

    return run


class Hangs(Gpu):
    """Whatever hangs, in whatever way. These tests sleep more than they work."""

    @patient
    def test_what_hangs_costs_no_other(self, scale):
        """Each kind of case, in each of three ways."""
        rows, out = self.session(
            "first", *self.fakes("peer--hang"), "--scale-limits", str(scale), "--minutes",
            "40", "--lanes", "20", **self.with_tools(),
            HANGS="step-bf16:children,barrier:sleep,phases-medium-tf32:sleep,gpu_model:stubborn,"
                  "ncu:children")
        notes = self.notes(rows)
        for text in ("ptb_dist bf16, small, 20 lanes: not measured: stopped after",
                     "ptb_dist bf16, medium, 20 lanes: not measured: stopped after",
                     "ptb_dist bf16, large, 20 lanes: not measured: left out, since 2 of its kind",
                     "floors barrier: not measured: stopped after",
                     "phases medium 20 tf32: not measured: stopped after",
                     "kernels large bf16: not measured: stopped after",
                     "kernels small bf16: not measured: ncu lists no kernel of any phase: ERR_NVG",
                     "pytorch graph_tf32, small, 20 lanes: not measured: no answer within"):
            self.assertIn(text, notes)
        # And PyTorch's graphs in bf16, which say why.
        self.assertEqual(len(notes.splitlines()), 11, notes)
        # All others are there, and what had been printed before.
        steps = [(row["model"], row["variant"]) for row in self.of_kind(rows, "step")
                 if row["round"] == 0]
        self.assertEqual(len(steps), 3 * len(("tf32", "fp32", "eager_tf32", "eager_bf16")) + 2)
        self.assertEqual({row["model"] + row["precision"] for row in self.of_kind(rows, "kernel")},
                         {"largebf16", "largetf32", "smalltf32"})
        self.assertEqual([row["floor"] for row in self.of_kind(rows, "floor")],
                         ["chip", "chain", "graphs", *["products"] * 3, "read", "barrier"])
        self.assertEqual(len(self.of_kind(rows, "phase")), 8)
        self.assertEqual([(row["test"], row["verdict"]) for row in self.of_kind(rows, "suite")],
                         [("gpu_operations", "passed"), ("gpu_model", "failed"),
                          ("gpu_trainer", "failed")])
        self.assertIn("| gpu_model | failed | stopped after ", out)
        self.assertIn("test gpu_model", (self.scratch / "out/suite.txt").read_text())

    @patient
    def test_it_ends_in_time_where_all_hangs(self, scale):
        rows, out = self.session("first", *self.fakes(), "--scale-limits", str(scale), "--minutes",
                                 "2", **self.with_tools(),
                                 HANGS="gpu_operations:stubborn,gpu_model:stubborn,chip:stubborn,"
                                       "chain:stubborn,step-tf32:stubborn,nvidia-smi:sleep")
        self.assertIn("gpu: no GPU known: nvidia-smi: no answer in", out)
        self.assertLess(self.seconds, 3 * 60 * 9 * scale)
        self.assertIn("2 minutes were over", self.notes(rows))
        self.assertIn("| gpu_operations | failed | stopped after ", out)

    def test_a_kill_loses_nothing_that_was_done(self):
        out = self.scratch / "out"
        variables = self.marked(dict(HANGS="gpu_model:children"))
        process = program.start(
            ["first", "--out", str(out), "--suite", self.suite(), *self.fakes()],
            HERE / "gpu.sh", cwd=self.scratch, changes=variables)
        tables, deadline = out / "tables.md", time.monotonic() + 120
        while "| gpu_operations |" not in (tables.read_text() if tables.exists() else ""):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        process.terminate()
        self.assertEqual(process.wait(60), 143)
        process.communicate()
        self.assertEqual(self.survivors(), [])
        self.assertIn("gpu_operations", (out / "rows.jsonl").read_text())
        self.assertIn("test gpu_operations", (out / "suite.txt").read_text())

    def test_a_kill_leaves_nothing_behind_that_had_just_been_started(self):
        """Not yet known to whoever would wait for it: a Python that kills itself at that moment."""
        self.script("sitecustomize.py", KILLED_AT_A_START)
        process = program.start(
            ["first", "--out", str(self.scratch / "out"), "--suite", self.suite(),
             *self.fakes()], HERE / "gpu.sh", cwd=self.scratch,
            changes=self.marked(dict(PYTHONPATH=str(self.scratch),
                                     HANGS="gpu_operations:children")))
        _, err = process.communicate(timeout=100)
        self.assertEqual(process.returncode, 143, err)
        self.assertEqual(self.survivors(), [])

    def test_a_training_does_not_outlive_its_call(self):
        run_dir = self.scratch / "run"
        process = program.start(
            ["train", "large", "--run-dir", str(run_dir), *self.fakes()[:4], "--", "--epochs", "1",
             "--keep-checkpoints", "0"], HERE / "gpu.sh", cwd=self.scratch,
            changes=self.marked(dict(HANGS="training-large:children")))
        deadline = time.monotonic() + 60
        while not (run_dir / "metrics.jsonl").exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        process.terminate()
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143)
        self.assertEqual(self.survivors(), [])

    @patient
    def test_tools(self, scale):
        rows, out = self.session("tools", *self.fakes(), "--models", "large", "--peers",
                                 "eager_tf32", "--scale-limits", str(scale), "--minutes", "40",
                                 HANGS="gpu_racecheck:sleep")
        self.assertEqual([(row["test"], row["verdict"]) for row in self.of_kind(rows, "suite")],
                         [("gpu_ranks", "passed"), ("gpu_memcheck", "passed"),
                          ("gpu_racecheck", "failed"), ("gpu_initcheck", "passed"),
                          ("gpu_synccheck", "passed")])
        self.assertEqual({row["lanes"] for row in self.of_kind(rows, "step")}, {80, 320})
        self.assertIn("| phase | large 20 bf16 | large 20 bf16 piece 0 | large 20 bf16 piece 10 | "
                      "large 20 bf16 queues 2 | large 20 bf16 queues 1 | large 20 tf32 |", out)

    @patient
    def test_trainings(self, scale):
        rows, out = self.session("train", *self.fakes(), "--scale-limits", str(scale / 3),
                                 "--minutes", "60", HANGS="training-medium:sleep")
        found = [(row["model"], row["precision"], row["epochs"], row["valid"], row["test"],
                  row["seconds_to_published"]) for row in self.of_kind(rows, "train")]
        # Validation perplexities are 124, 123, 122; published are 122.3 and 82.62.
        self.assertEqual(found, [("small", "tf32", 3, 122, 78.2, 33),
                                 ("large", "bf16", 3, 122, 78.2, None)])
        self.assertRegex(self.notes(rows), "medium tf32: not measured: stopped after .*; 3 epochs")
        self.assertIn("| 33 | 33 | no | - |", out)
        with zipfile.ZipFile(self.scratch / "out/metrics.zip") as archive:
            self.assertEqual(archive.namelist(),
                             ["small_tf32_seed1.jsonl", "large_bf16_seed1.jsonl",
                              "medium_tf32_seed1.jsonl"])
            self.assertEqual(len(archive.read("medium_tf32_seed1.jsonl").splitlines()), 6)
        # Another call goes on behind a line that a kill has cut off.
        with (self.scratch / "out/rows.jsonl").open("a") as file:
            file.write('{"kind": "no')
        again = self.scratch / "out/tables.md"
        self.call(["train", "--tiny", "--out", str(again.parent), *self.fakes()], 0, {})
        self.assertIn("| 33 | 33 | no | - |", again.read_text())
        self.assertRegex(again.read_text(), r"\| tiny \| tf32 \|")


# A session that is stuck behind what it has started, as in the kernel: it cannot even be ended.
STUCK = """
import os, signal, subprocess
import gpu_process
gpu_process.guard(0.5)
process = subprocess.Popen(["setsid", "sleep", "1000"])
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


class Guards(unittest.TestCase):
    def test_one_that_is_stuck_is_ended(self):
        ended = subprocess.run([sys.executable, "-c", STUCK], text=True, capture_output=True,
                               timeout=60, cwd=HERE.parent / "gpu")
        self.assertEqual(ended.returncode, 1)
        self.assertEqual(ended.stderr, "error: stopped, since its time was up and it was stuck\n")
        self.assertFalse(pathlib.Path("/proc", ended.stdout.strip()).exists())

    def test_what_cannot_be_killed_is_waited_for_once(self):
        process = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        with mock.patch.object(gpu_process, "KILL_SECONDS", 0.2), \
                mock.patch.object(gpu_process, "kept", set()), \
                mock.patch.object(os, "kill") as kill:
            gpu_process.end_all()
            self.assertIn(mock.call(process.pid, 9), kill.mock_calls)
            kill.reset_mock()
            gpu_process.end_all()
            kill.assert_not_called()


class Folder(Gpu):
    def test_what_has_no_room(self):
        """It is told, and neither the archive nor the rest of the case is lost."""
        folder = gpu_session.Folder(self.scratch / "out")
        with mock.patch.object(gpu_session, "MOST_BYTES", 3000), mock.patch.multiple(
                gpu_session.Session, __init__=lambda self: None, folder=folder, rows=mock.Mock(),
                create=True):
            session = gpu_session.Session()
            session.pack("metrics.zip", "a", b"first")
            session.pack("metrics.zip", "b", os.urandom(4000))
            session.rows.note.assert_called_once_with("b has no room in metrics.zip")
            for _ in range(5):
                folder.append("log.txt", 999 * "x" + "\n")
        with zipfile.ZipFile(folder.path / "metrics.zip") as archive:
            self.assertEqual(archive.namelist(), ["a"])
        self.assertEqual((folder.path / "log.txt").stat().st_size, 2000)


class Tools(Gpu):
    def test_what_the_toolkit_checks_is_a_training(self):
        self.script("compute-sanitizer", SANITIZER)
        ended = program.run(["memcheck", str(self.program)],
                            HERE.parent / "gpu/compute_sanitizer.sh", cwd=self.scratch,
                            changes=dict(PATH=f"{self.scratch}:{program.environment()['PATH']}",
                                         PTB_DIST_TEST_QUICK="1"))
        self.assertEqual(ended.status, 0, ended.out + ended.err)
        self.assertIn("windows done: 5\n", ended.out)

    def test_overlaps_have_the_same_bits(self):
        tool = self.program.parent / "ptb_dist_gpu_phases_on_cpu"
        flags = ["--config", "test", "--set=hidden_size=18", "--set=num_layers=3",
                 "--set=num_steps=7", "--set=vocab_size=50", "--set=keep_prob=0.5", "--lanes", "4",
                 "--precision", "bf16", "--repeats", "1", "--rounds", "1"]
        results = set()
        for overlap in ([], ["--piece", "0"], ["--piece", "3"], ["--queues", "1"],
                        ["--queues", "2"]):
            ended = program.run([*flags, *overlap], tool, changes=dict(CUDA_ON_CPU_SEED="5"))
            self.assertEqual(ended.status, 0, ended.err)
            last = json.loads(ended.out.splitlines()[-1])
            results.add((last["loss"], last["norm"]))
        self.assertEqual(len(results), 1, results)


class Compare(Gpu):
    def test_a_peer_that_dies_leaves_the_others(self):
        rows, out = self.gpu("compare", *self.fakes("peer--die"), "--models", "large", "--lanes",
                             "20", "--rounds", "2", "--precisions", "fp32", is_tiny=False)
        self.assertEqual([(row["variant"], row["round"]) for row in self.of_kind(rows, "step")],
                         [("eager_tf32", 0), ("fp32", 0), ("graph_tf32", 0), ("graph_tf32", 1),
                          ("fp32", 1), ("eager_tf32", 1)])
        self.assertIn("eager_bf16, large, 20 lanes: not measured: its process ended with 3", out)

    def test_without_torch(self):
        rows, out = self.gpu("compare", *self.fakes(), "--models", "large", "--lanes", "20",
                             "--rounds", "1", "--precisions", "tf32", "--python",
                             self.script("no_torch", NO_TORCH), is_tiny=False)
        self.assertRegex(out, "PyTorch: not measured: ModuleNotFoundError: .*torch")
        row, = self.of_kind(rows, "step")
        self.assertEqual((row["program"], row["variant"]), ("ptb_dist", "tf32"))

    def test_without_time(self):
        rows, out = self.gpu("compare", *self.fakes(), "--minutes", "0", is_tiny=False)
        self.assertEqual(self.of_kind(rows, "step"), [])
        self.assertIn("0 minutes were over", out)

    def test_without_tools(self):
        rows, out = self.gpu("compare", *self.fakes(), "--models", "large", "--lanes", "20",
                             "--rounds", "0", "--tools", "missing", is_tiny=False)
        for tool in ("floors chip,chain,graphs,barrier,read", "phases large 20 tf32"):
            self.assertRegex(out, f"{tool}: not measured: missing/.*: No such file")

    def test_ratios_are_medians_of_those_of_a_round(self):
        out = self.table(*(step("tf32", turn, speed) for turn, speed in enumerate((20, 90, 30))),
                         *(step("eager_tf32", turn, speed) for turn, speed in enumerate((10, 50))),
                         step("bf16", 0, 14), step("graph_bf16", 0, 10),
                         step("tf32", 0, 5, lanes=80), step("eager_tf32", 0, 1, lanes=80))
        self.assertIn("| large | 20 | 1.90 | >= 2.0: missed | 1.40 | >= 1.5: missed |", out)
        self.assertIn("| large | 80 | 5.00 |  | - |  |", out)  # the bars are for 20 lanes


class Train(Gpu):
    def test_in_full_and_in_two_calls(self):
        flags = ["tiny", "--precision", "fp32", "--seed", "3"]
        rest = ["--", "--epochs", "2", "--synthetic-tokens", "700"]
        rows, out = self.gpu("train", *flags, "--minutes", "0.02", *rest, status=75)
        self.assertEqual(self.of_kind(rows, "train"), [])
        self.assertIn("the same command goes on", out)
        rows, out = self.gpu("train", *flags, *rest)
        row, = self.of_kind(rows, "train")
        metrics = program.records(self.scratch / "runs/gpu-tiny-fp32-seed3-ranks1")
        final, = [r for r in metrics if r["kind"] == "test" and r["weights"] == "final"]
        self.assertEqual(row["test"], final["perplexity"])
        self.assertEqual((row["epochs"], row["is_resumed"], row["seed"]), (2, True, 3))
        self.assertIn(f"| tiny | fp32 | 3 | 1 | 2 | {row['train']:.2f} | {row['valid']:.2f} | "
                      f"{row['test']:.2f} |", out)

    def test_bars(self):
        row = dict(kind="train", precision="bf16", seed=1, ranks=1, epochs=55, train=37, valid=82,
                   seconds=150, epoch_seconds=140, is_resumed=False, data="ptb", flags=[],
                   seconds_to_published=None, has_checkpoints=True)
        for changes, verdicts in (
                (dict(model="small", test=116.6), "test <= 116.7: met"),
                (dict(model="small", test=116.8), "test <= 116.7: missed"),
                (dict(model="medium", test=80.5), "test 82.07 ± 1.5: missed"),
                (dict(model="large", test=78.2), "test 78.29 ± 1.5: met; "
                                                 "test <= 78.3 in <= 200 s on an H200: met"),
                (dict(model="large", test=78.2, seconds=201), "H200: missed"),
                (dict(model="large", test=78.2, data="synthetic"), "| - |"),
                (dict(model="large", test=78.2, flags=["--epochs", "1"]), "| - |")):
            self.assertIn(verdicts, self.table({**row, **changes}))


class Scaling(Gpu):
    def test_two_ranks(self):
        rows, out = self.gpu("scaling", "tiny", "--precision", "fp32", "--gpus", "2",
                             "--weak-lanes", "2", "--strong-lanes", "5,1", "--rounds", "1",
                             CUDA_ON_CPU_DEVICES="2")
        found = [(row["mode"], row["ranks"], row["lanes"]) for row in self.of_kind(rows, "scaling")]
        self.assertEqual(found, [("weak", 1, 2), ("weak", 2, 4), ("strong", 1, 5),
                                 ("strong", 2, 5), ("strong", 1, 1), ("alone", 1, 3)])
        # Of one lane one of two ranks has none.
        self.assertIn("tiny, 2 ranks, 1 lanes: not measured: exit status", out)
        # Two layers of [36,72] and 72, the softmax's [18,200] and 200, rows of 24 words.
        derived = [4 * (2 * (36 * 72 + 72) + 18 * 200 + 200 + words * 18) for words in (24, 30)]
        self.assertEqual([row["wire_bytes"] for row in self.of_kind(rows, "scaling")],
                         [0, derived[0], 0, derived[1], 0, 0])
        self.assertNotIn("alone", out)
        for mode, lanes in (("weak", 4), ("strong", 5)):
            self.assertRegex(out, rf"\| tiny \| fp32 \| {mode} \| {lanes} \| 2 \| [\d.]+ \| [\d,]+ "
                                  r"\| \d+ % \| -?\d+ % \| ")

    def test_sums_and_waiting_are_what_one_rank_does_not_need(self):
        def row(mode, ranks, lanes, milliseconds, turn):
            return dict(kind="scaling", model="large", precision="bf16", mode=mode, ranks=ranks,
                        lanes=lanes, milliseconds=milliseconds, round=turn, wire_bytes=0,
                        words_per_second=35_000 * lanes / milliseconds)

        out = self.table(row("weak", 1, 80, 9, 0), row("weak", 8, 640, 10, 0),
                         row("strong", 4, 640, 20, 0), row("alone", 1, 160, 16, 0),
                         row("strong", 4, 640, 20, 1), row("alone", 1, 160, 14, 1),
                         row("strong", 4, 640, 99, 2),  # the time was up behind it
                         row("strong", 2, 640, 30, 0))
        self.assertIn("| weak | 80 | 1 | 9.000 | 311,111 | 100 % | - |", out)
        self.assertIn("| weak | 640 | 8 | 10.000 | 2,240,000 | 90 % | 10 % |", out)
        self.assertIn("| strong | 640 | 4 | 20.000 | 1,120,000 | - | 25 % |", out)
        self.assertIn("| strong | 640 | 2 | 30.000 | 746,667 | - | - |", out)


if __name__ == "__main__":
    program.run_tests()
