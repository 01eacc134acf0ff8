"""The measurements of gpu.py. Each has its own time limit, so that one that hangs costs no other.

Every row is a JSON object of one of these kinds:

    machine   GPU, versions, command, date: with which the rows after it were measured
    floor     of the chip and of launches (ptb_dist_gpu_floors, which says what each is)
    product   microseconds of a product of a model: alone, and of two on two streams
    step      a model at so many lanes, `variant` of ptb_dist (precision) or pytorch (gpu_peer.py)
    phase     milliseconds of one phase of ptb_dist's step (ptb_dist_gpu_phases); `overlap` of it
    kernel    what ncu saw of a kernel in a phase: launches, microseconds, megabytes read
    suite     a test of the GPU suite: passed, failed or skipped, and `why`
    clocks    of the GPUs while a case ran (gpu_machine.py: clocks, power, what slowed them down)
    train     a whole training: perplexities, seconds, the bar
    scaling   a number of ranks: step, words/s, bytes on the wire; `mode` is weak, strong, or alone:
              one rank with the lanes that one of several has, for the share of sums and waiting
    note      what was not measured, and why

Step time: ptb_dist's is that between the first and the last progress record of its metrics, over
the windows between; PyTorch's is that of as many windows. words/s = T*B / step time. In every round
each variant is measured once, in turn, the order turned round in every second round. ptb_dist then
writes no checkpoints (--keep-checkpoints 0), and its metrics to memory where there is room.
"""

import contextlib
import json
import os
import pathlib
import select
import shlex
import subprocess
import sys
import tempfile
import time

import gpu_process
from corpus import CONFIGS
from gpu_process import Missing
from speed import environment, words_per_second

HERE = pathlib.Path(__file__).resolve().parent
TRAIN_TOKENS = 929_589  # of the Penn Treebank, and of the synthetic corpus by default
# About a second each at what a GPU is expected to do.
WINDOWS = {"small": 1000, "medium": 600, "large": 300, "tiny": 18}
# A model for the test of these scripts: its figures mean nothing.
TINY = dict(init_scale=0.1, learning_rate=1.0, max_grad_norm=5.0, num_layers=2, num_steps=6,
            hidden_size=18, keep_prob=0.5, batch_size=4, vocab_size=200, synthetic_tokens=2000)
TINY_FLAGS = ["--config", "test", "--synthetic-vocab", "200", "--eval-lanes", "3",
              *(f"--{key.replace('_', '-')}={value}" for key, value in TINY.items())]
TINY_FLOORS = ("--models tiny --megabytes 1 --extent 32 --chain 10 --products 2 --read-megabytes 1 "
               "--read-blocks 4 --repeats 2 --rounds 1").split()
TINY_PHASES = ["--config", "test", *(f"--set={key}={value}" for key, value in TINY.items())]
CASE_SECONDS, PEER_START_SECONDS = 60, 90
MOST_BYTES = 15_000_000  # of a file
HANGS = 2  # of a precision; then the rest of it is left out


class Rows:
    """All rows so far; each is in the file before the next one is measured."""

    def __init__(self, path):
        self.path, self.rows = path, []
        if path.is_file() and not path.read_bytes().endswith(b"\n"):
            path.open("a").write("\n")  # behind what a kill has left

    def add(self, kind, **fields):
        row = dict(kind=kind, **fields)
        self.rows.append(row)
        line = json.dumps(row)
        with self.path.open("a") as file:
            if file.tell() < MOST_BYTES:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        print(line, file=sys.stderr, flush=True)

    def note(self, text):
        if not any(row["kind"] == "note" and row["text"] == text for row in self.rows):
            self.add("note", text=text)


def add_clocks(rows, sampler, case):
    """A row for each GPU that worked since the last one was asked for."""
    for gpu in sampler.summary():
        if gpu["busy"] > 0:
            rows.add("clocks", case=case, **gpu)


class Budget:
    """The time of a call. `scale` shortens every limit, for a test."""

    def __init__(self, minutes, scale=1.0):
        self.minutes, self.scale = minutes, scale
        self.end = time.monotonic() + 60 * minutes * scale
        self.took = {}  # what -> seconds that it took when it was last done
        self.hangs = {}  # what is hung on -> how often

    def left(self):
        return self.end - time.monotonic()

    def limit(self, seconds):
        """For something that should take less; Missing when nothing is left."""
        if self.left() <= 0:
            raise Missing(f"{self.minutes:g} minutes were over")
        return min(seconds * self.scale, self.left())

    def allows(self, what):
        """As far as one knows: what has not been done before is tried while there is time."""
        return self.left() > self.took.get(what, 0)

    @contextlib.contextmanager
    def charge(self, what):
        start = time.monotonic()
        yield
        self.took[what] = time.monotonic() - start

    @contextlib.contextmanager
    def hang_counts(self, what):
        """Missing at once where too much of the same kind has hung before."""
        if self.hangs.get(what, 0) >= HANGS:
            raise Missing(f"left out, since {HANGS} of its kind hung")
        try:
            yield
        except Missing as reason:
            self.hangs[what] = self.hangs.get(what, 0) + reason.is_hang
            raise


def keys_of(model, lanes):
    return dict(TINY if model == "tiny" else CONFIGS[model], batch_size=lanes)


def model_flags(args, model):
    flags = TINY_FLAGS if model == "tiny" else ["--config", model]
    return [*flags, "--data", "synthetic" if model == "tiny" else str(args.data), "--backend",
            "cuda", "--comm", args.comm]


def windows_of(args, model, keys):
    """How many are run: no more than an epoch has, in which the program's clock starts anew."""
    tokens = keys.get("synthetic_tokens", TRAIN_TOKENS)
    in_epoch = (tokens // keys["batch_size"] - 1) // keys["num_steps"]
    return min(args.windows or WINDOWS[model], in_epoch)


def launched(args, ranks):
    return [*(shlex.split(args.mpirun) + ["-np", str(ranks)] if ranks > 1 else []),
            str(args.program)]


def our_step(args, limit, model, lanes, precision, ranks=1):
    """words/s, and how many windows it was measured over."""
    keys = keys_of(model, lanes)
    windows = windows_of(args, model, keys)
    with tempfile.TemporaryDirectory(prefix="ptb_dist_gpu_",
                                     dir=gpu_process.memory_folder()) as scratch:
        gpu_process.run([*launched(args, ranks), *model_flags(args, model),
                         f"--batch-size={lanes}", "--precision", precision, "--max-windows",
                         windows, "--keep-checkpoints", "0", "--run-dir", f"{scratch}/run"],
                        limit, environment())
        metrics = read_metrics(pathlib.Path(scratch, "run"))
    if not any(record["kind"] == "progress" for record in metrics):
        raise Missing(f"{windows} windows are too few for a progress record")
    return words_per_second(metrics, keys), windows


def read_metrics(run_dir):
    """Of a run that may have been killed: a line that is not whole is the last."""
    file = run_dir / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.is_file() else []
    return [json.loads(line) for line in lines]


# --- PyTorch ------------------------------------------------------------------------------------

class Peer:
    """The process of gpu_peer.py, started when it is needed, and again where it died or hung. `why`
    it is of no use, or None."""

    def __init__(self, args):
        self.args, self.process, self.versions, self.why = args, None, None, None

    def start(self, limit):
        data = "synthetic" if self.args.tiny else str(self.args.data)
        try:
            self.process = subprocess.Popen(
                [self.args.python, str(HERE / "gpu_peer.py"), "--data", data, "--device",
                 self.args.device], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                start_new_session=True)
        except OSError as error:
            raise Missing(f"{self.args.python}: {error.strerror}") from None
        gpu_process.kept.add(self.process.pid)
        self.rest = b""
        versions = self.read(limit)
        if "why" in versions:
            raise Missing(versions["why"])
        self.versions = versions

    def read(self, limit):
        """Its next answer. Missing, and the process is gone, where none comes."""
        deadline = time.monotonic() + limit
        while True:
            line, end, rest = self.rest.partition(b"\n")
            if end:
                self.rest = rest
                if line.startswith(b"{"):  # and no remark of a library
                    return json.loads(line)
                continue
            left = max(deadline - time.monotonic(), 0)
            if not select.select([self.process.stdout], [], [], left)[0]:
                self.close()
                raise Missing(f"no answer within {limit:.3g} s", is_hang=True)
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                raise Missing(f"its process ended with {self.close()}")
            self.rest += more

    def is_ready(self, rows, budget):
        """Whether it can be asked; says once why not."""
        if self.why is None and self.process is None:
            is_first = self.versions is None
            try:
                self.start(budget.limit(PEER_START_SECONDS))
            except Missing as reason:
                self.close()
                self.why = str(reason)
                rows.note(f"PyTorch: not measured: {reason}")
            else:
                if is_first:
                    rows.add("machine", peer=self.versions)
        return self.why is None

    def step(self, limit, model, lanes, variant):
        keys = keys_of(model, lanes)
        windows = windows_of(self.args, model, keys)
        request = dict(model=model, keys=keys, variant=variant, windows=windows, warm_up=10)
        with contextlib.suppress(BrokenPipeError):  # read() says that it has ended
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        reply = self.read(limit)
        if "why" in reply:
            raise Missing(reply["why"])
        return 1000 * keys["num_steps"] * lanes / reply["milliseconds"], windows

    def close(self):
        """Its exit status, -9 where it had to be killed."""
        process, self.process = self.process, None
        if process is None:
            return None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)  # at the end of its input it ends
        gpu_process.kept.discard(process.pid)
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(gpu_process.KILL_SECONDS)
        process.stdout.close()
        gpu_process.end_all()
        return process.returncode


# --- the tools ----------------------------------------------------------------------------------

def tool(args, name):
    """ptb_dist_gpu_floors or _phases; on the emulation they are called ..._on_cpu."""
    folder = args.tools or args.program.parent
    return folder / (f"ptb_dist_gpu_{name}" + "_on_cpu" * args.program.name.endswith("_on_cpu"))


def json_lines(text):
    """A line that is not whole is what a killed program printed last."""
    for line in text.splitlines():
        if line.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


def measure_tool(args, rows, limit, name, flags=(), **fields):
    """Its rows, also those that it printed before it failed."""
    try:
        out, reason = gpu_process.run([tool(args, name), *flags], limit, environment()), None
    except Missing as missing:
        out, reason = missing.out, missing
    for row in json_lines(out):
        rows.add(**{**fields, **row})
    if reason:
        raise reason


def measure_floors(args, rows, budget, what, flags=(), seconds=CASE_SECONDS):
    tiny = TINY_FLOORS if args.tiny else []
    try:
        measure_tool(args, rows, budget.limit(seconds), "floors", [*tiny, "--what", what, *flags])
    except Missing as reason:
        rows.note(f"{' '.join(['floors', what, *flags])}: not measured: {reason}")


def phases_flags(args, model, lanes, precision):
    config = TINY_PHASES if model == "tiny" else ["--config", model]
    rounds = ["--repeats", "1", "--rounds", "1"] if model == "tiny" else []
    return [*config, "--lanes", lanes, "--precision", precision], rounds


def measure_phases(args, rows, budget, model, lanes, precision, overlap=()):
    """`overlap`: flags that vary it."""
    flags, rounds = phases_flags(args, model, lanes, precision)
    name = " ".join(overlap).replace("--", "")
    try:
        with budget.hang_counts(precision):
            measure_tool(args, rows, budget.limit(CASE_SECONDS / 2), "phases",
                         [*flags, *rounds, *overlap], model=model, lanes=lanes, precision=precision,
                         overlap=name)
    except Missing as reason:
        words = ["phases", model, str(lanes), precision, *([name] if name else [])]
        rows.note(f"{' '.join(words)}: not measured: {reason}")


# --- steps beside PyTorch's ---------------------------------------------------------------------

# What a bar is for comes first.
PAIRS = [("tf32", "eager_tf32"), ("bf16", "graph_bf16"), ("fp32", "graph_tf32", "eager_bf16")]


def measure_step(args, rows, budget, peer, case, turn):
    model, lanes, program, variant = case
    try:
        limit = budget.limit(args.case_seconds)
        with budget.charge(case), budget.hang_counts((program, variant.rpartition("_")[2])):
            speed, windows = (our_step(args, limit, model, lanes, variant)
                              if program == "ptb_dist"
                              else peer.step(limit, model, lanes, variant))
    except Missing as reason:
        budget.took[case] = float("inf")  # not tried again
        return rows.note(f"{program} {variant}, {model}, {lanes} lanes: not measured: {reason}")
    words = keys_of(model, lanes)["num_steps"] * lanes
    rows.add("step", model=model, lanes=lanes, program=program, variant=variant, round=turn,
             milliseconds=round(1000 * words / speed, 4), words_per_second=round(speed, 1),
             windows=windows)


def measure_rounds(args, rows, budget, peer, turns):
    """Each case once in every round of `turns`."""
    programs = {**dict.fromkeys(args.precisions, "ptb_dist"),
                **dict.fromkeys(args.peers, "pytorch")}
    cases = [(model, lanes, programs[variant], variant) for lanes in args.lanes for pair in PAIRS
             for model in args.models for variant in pair if variant in programs]
    for turn in turns:
        for case in cases[:: -1 if turn % 2 else 1]:
            if not budget.allows(case):
                if turn == 0 and budget.took.get(case) != float("inf"):
                    rows.note(f"{args.minutes:g} minutes were not enough for one round of all")
            elif case[2] == "ptb_dist" or peer.is_ready(rows, budget):
                measure_step(args, rows, budget, peer, case, turn)


# --- trainings ----------------------------------------------------------------------------------

def reached(epochs, bar):
    """Seconds of training and validation up to the first epoch with that validation perplexity."""
    seconds = 0
    for record in epochs:
        seconds += record["seconds"]
        if record["split"] == "valid" and record["perplexity"] <= bar:
            return round(seconds, 1)
    return None


def training_row(args, rows, run_dir, seconds, published, **fields):
    metrics = read_metrics(run_dir)
    epochs = [record for record in metrics if record["kind"] == "epoch"]
    valid = [record["perplexity"] for record in epochs if record["split"] == "valid"]
    final, = [record for record in metrics if record["kind"] == "test"
              and record["weights"] == "final"][-1:]
    rows.add("train", data=pathlib.Path(args.data).name, epochs=len(valid),
             train=epochs[-2]["perplexity"], valid=valid[-1], test=final["perplexity"],
             seconds=round(seconds, 1),
             epoch_seconds=round(sum(record["seconds"] for record in epochs), 1),
             seconds_to_published=reached(epochs, published) if published else None, **fields)
