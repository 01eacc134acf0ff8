#!/usr/bin/env python3
"""What gpu.sh does; its comment says how to call it.

Every row is a JSON object of one of these kinds:

    machine   GPU, versions, command, date: what the rows behind it were measured with
    floor     of the chip: copy, tf32, bf16, launch (ptb_dist_gpu_floors)
    step      a model at so many lanes, `variant` of ptb_dist (precision) or pytorch (gpu_peer.py)
    phase     milliseconds of one phase of ptb_dist's step (ptb_dist_gpu_phases)
    train     a whole training: perplexities, seconds, the bar
    scaling   a number of ranks: step, words/s, bytes on the wire; `mode` is weak, strong, or alone:
              one rank with the lanes that one of several has, for the share of sums and waiting
    note      what was not measured, and why

Step time: ptb_dist's is that between the first and the last progress record of its metrics, over
the windows between; PyTorch's is that of as many windows. words/s = T*B / step time. In every round
each variant is measured once, in turn, the order turned round in every second round.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time

from corpus import CONFIGS, find_data
from gpu_tables import PEERS, PRECISIONS, lanes_of_a_rank, tables
from speed import environment, words_per_second

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = pathlib.Path(__file__).resolve().parent
PROGRAM, MPIRUN = PROJECT / "build/ptb_dist", "mpirun"
if (PROJECT / "bin/mpirun").is_file():  # not the project, but what launch/bundle.sh --tests made
    PROGRAM, MPIRUN = PROJECT / "bin/ptb_dist", shlex.quote(str(PROJECT / "bin/mpirun"))
TRAIN_TOKENS = 929_589  # of the Penn Treebank, and of the synthetic corpus by default
# About a second each at what a GPU is expected to do.
WINDOWS = {"small": 1000, "medium": 600, "large": 300, "tiny": 18}
# A model for the test of this script: its figures mean nothing.
TINY = dict(init_scale=0.1, learning_rate=1.0, max_grad_norm=5.0, num_layers=2, num_steps=6,
            hidden_size=18, keep_prob=0.5, batch_size=4, vocab_size=200, synthetic_tokens=2000)
TINY_FLAGS = ["--config", "test", "--synthetic-vocab", "200", "--eval-lanes", "3",
              *(f"--{key.replace('_', '-')}={value}" for key, value in TINY.items())]
TINY_FLOORS = "--what chip --megabytes 1 --extent 32 --chain 10 --repeats 2 --rounds 3".split()
TINY_PHASES = ["--config", "test", "--repeats", "2", "--rounds", "3",
               *(f"--set={key}={value}" for key, value in TINY.items())]


class Missing(Exception):
    """Something could not be measured; the reason."""


class TimeIsUp(Exception):
    """Nothing is measured behind it."""


class Rows:
    """All rows so far; each is in the file before the next one is measured."""

    def __init__(self, path):
        self.path, self.rows = path, []

    def add(self, kind, **fields):
        row = dict(kind=kind, **fields)
        self.rows.append(row)
        line = json.dumps(row)
        with self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line, file=sys.stderr, flush=True)

    def note(self, text):
        if not any(row["kind"] == "note" and row["text"] == text for row in self.rows):
            self.add("note", text=text)


class Budget:
    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes
        self.took = {}  # what -> seconds that it took when it was last done

    def left(self):
        return self.end - time.monotonic()

    def allows(self, what):
        """As far as one knows: what has not been done before is tried while there is time."""
        return self.left() > self.took.get(what, 0)

    @contextlib.contextmanager
    def charge(self, what):
        start = time.monotonic()
        yield
        self.took[what] = time.monotonic() - start


def last_line(text):
    return (text.strip().splitlines() or ["no output"])[-1]


def run(command, seconds):
    """Standard output; Missing with the last line of an error."""
    try:
        ended = subprocess.run([str(word) for word in command], env=environment(), text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        raise Missing("the time was up") from None
    except OSError as error:
        raise Missing(f"{command[0]}: {error.strerror}") from None
    if ended.returncode != 0:
        raise Missing(f"exit status {ended.returncode}: {last_line(ended.stderr)}")
    return ended.stdout


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


def our_step(args, seconds, model, lanes, precision, ranks=1):
    """words/s, and how many windows it was measured over."""
    keys = keys_of(model, lanes)
    windows = windows_of(args, model, keys)
    with tempfile.TemporaryDirectory(prefix="ptb_dist_gpu_") as scratch:
        run([*launched(args, ranks), *model_flags(args, model), f"--batch-size={lanes}",
             "--precision", precision, "--max-windows", windows, "--run-dir", f"{scratch}/run"],
            seconds)
        lines = pathlib.Path(scratch, "run", "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    if not any(record["kind"] == "progress" for record in metrics):
        raise Missing(f"{windows} windows are too few for a progress record")
    return words_per_second(metrics, keys), windows


class Peer:
    """The process of gpu_peer.py; `why` it is of no use, or None."""

    def __init__(self, args):
        data = "synthetic" if args.tiny else str(args.data)
        try:
            self.process = subprocess.Popen(
                [args.python, str(HERE / "gpu_peer.py"), "--data", data, "--device", args.device],
                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            self.process, self.why = None, f"{args.python}: {error.strerror}"
            return
        self.versions = self.read()
        self.why = self.versions.get("why")

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.why = f"its process ended with {self.process.wait()}"
            return dict(why=self.why)
        return json.loads(line)

    def step(self, args, model, lanes, variant):
        keys = keys_of(model, lanes)
        windows = windows_of(args, model, keys)
        request = dict(model=model, keys=keys, variant=variant, windows=windows, warm_up=10)
        with contextlib.suppress(BrokenPipeError):  # read() says that it has ended
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        reply = self.read()
        if "why" in reply:
            raise Missing(reply["why"])
        return 1000 * keys["num_steps"] * lanes / reply["milliseconds"], windows

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


# --- compare ------------------------------------------------------------------------------------

def measure_tool(args, rows, budget, tool, flags=(), **fields):
    """The rows of ptb_dist_gpu_floors or _phases; on the emulation they are called ..._on_cpu."""
    folder = args.tools or args.program.parent
    name = f"ptb_dist_gpu_{tool}" + "_on_cpu" * args.program.name.endswith("_on_cpu")
    try:
        lines = run([folder / name, *flags], budget.left()).splitlines()
    except Missing as reason:
        return rows.note(f"{' '.join([tool, *map(str, fields.values())])}: not measured: {reason}")
    for line in lines:
        if line.startswith("{"):
            rows.add(**fields, **json.loads(line))


def measure_phases(args, rows, budget):
    """At the fewest lanes, where a step is worth looking at first."""
    lanes = min(args.lanes)
    for model in args.models:
        for precision in args.precisions:
            config = TINY_PHASES if model == "tiny" else ["--config", model]
            measure_tool(args, rows, budget, "phases",
                         [*config, "--lanes", lanes, "--precision", precision],
                         model=model, lanes=lanes, precision=precision)


def measure_step(args, rows, budget, peer, case, turn):
    model, lanes, program, variant = case
    try:
        with budget.charge(case):
            speed, windows = (our_step(args, budget.left(), model, lanes, variant)
                              if program == "ptb_dist" else peer.step(args, model, lanes, variant))
    except Missing as reason:
        budget.took[case] = float("inf")  # not tried again
        return rows.note(f"{program} {variant}, {model}, {lanes} lanes: not measured: {reason}")
    words = keys_of(model, lanes)["num_steps"] * lanes
    rows.add("step", model=model, lanes=lanes, program=program, variant=variant, round=turn,
             milliseconds=round(1000 * words / speed, 4), words_per_second=round(speed, 1),
             windows=windows)


def compare(args, rows, budget):
    with alarm(budget.left() + 30), contextlib.closing(Peer(args)) as peer:
        if peer.why:
            rows.note(f"PyTorch: not measured: {peer.why}")
        else:
            rows.add("machine", peer=peer.versions)
        measure_tool(args, rows, budget, "floors", TINY_FLOORS if args.tiny else [])
        measure_phases(args, rows, budget)
        measure_rounds(args, rows, budget, peer)


def measure_rounds(args, rows, budget, peer):
    variants = [("ptb_dist", precision) for precision in args.precisions]
    if not peer.why:
        variants += [("pytorch", variant) for variant in args.peers]
    cases = [(model, lanes, *variant) for lanes in args.lanes for model in args.models
             for variant in variants]
    for turn in range(args.rounds):
        for case in cases[:: -1 if turn % 2 else 1]:
            if case[2] == "pytorch" and peer.why:
                continue  # its process has ended
            if budget.allows(case):
                measure_step(args, rows, budget, peer, case, turn)
            elif turn == 0:
                rows.note(f"{args.minutes:g} minutes were not enough for one round of all")


@contextlib.contextmanager
def alarm(seconds):
    """Ends the block when the time is up, whatever it waits for: PyTorch has no deadline."""
    def end(*_):
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1))
    try:
        yield
    except TimeIsUp:
        print("the time is up", file=sys.stderr)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- train --------------------------------------------------------------------------------------

def train(args, rows, budget):
    """In full, or until the time is up: then a checkpoint is left, and the same call goes on."""
    model = args.config
    run_dir = args.run_dir or pathlib.Path(
        f"runs/gpu-{model}-{args.precision}-seed{args.seed}-ranks{args.ranks}")
    is_resumed = (run_dir / "checkpoints").is_dir()
    command = [*launched(args, args.ranks), *model_flags(args, model), "--precision",
               args.precision, "--seed", str(args.seed), "--run-dir", str(run_dir), "--resume",
               "auto", *args.flags]
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL,
                               stdout=sys.stderr)
    try:
        status = process.wait(max(budget.left(), 1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGUSR1)  # mpirun passes it on to the ranks
        status = process.wait()
    seconds = time.monotonic() - start
    if status == 75:
        rows.note(f"{model} {args.precision}: not at its end after {args.minutes:g} minutes; the "
                  f"same command goes on from {run_dir}")
        return status
    if status != 0:
        rows.note(f"{model} {args.precision}: no result, ptb_dist ended with {status}")
        return status
    metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
    epochs = [record for record in metrics if record["kind"] == "epoch"]
    valid = [record["perplexity"] for record in epochs if record["split"] == "valid"]
    final, = [record for record in metrics if record["kind"] == "test"
              and record["weights"] == "final"][-1:]
    rows.add("train", model=model, precision=args.precision, seed=args.seed, ranks=args.ranks,
             data=data_name(args), flags=args.flags, epochs=len(valid),
             train=epochs[-2]["perplexity"], valid=valid[-1], test=final["perplexity"],
             seconds=round(seconds, 1), is_resumed=is_resumed,
             epoch_seconds=round(sum(record["seconds"] for record in epochs), 1))
    return 0


# --- scaling ------------------------------------------------------------------------------------

def count_gpus():
    try:
        return len(run(["nvidia-smi", "-L"], 60).splitlines())
    except Missing:
        return 0


def wire_bytes(keys, ranks):
    """What a rank sends in a step, from the sizes of the parts: a ring moves each byte of the sum
    2·(P-1)/P times. fp32; of the embedding the rows that a window can have at most."""
    H, V = keys["hidden_size"], keys["vocab_size"]
    dense = keys["num_layers"] * (2 * H * 4 * H + 4 * H) + H * V + V
    rows = min(V, keys["batch_size"] * keys["num_steps"]) * H
    return round(4 * (dense + rows) * 2 * (ranks - 1) / ranks)


def scaling_cases(args, ranks_counts):
    """(mode, ranks, global lanes), each measurement once."""
    cases = [(mode, ranks, batch * ranks if mode == "weak" else batch)
             for mode, batches in (("weak", args.weak_lanes), ("strong", args.strong_lanes))
             for batch in batches for ranks in ranks_counts]
    for _, ranks, lanes in [*cases]:
        alone = lanes_of_a_rank(lanes, ranks)
        if not any(case[1:] == (1, alone) for case in cases):
            cases.append(("alone", 1, alone))
    return cases


def scaling(args, rows, budget):
    gpus = args.gpus or count_gpus()
    if gpus == 0:
        raise SystemExit("gpu.sh: error: nvidia-smi shows no GPU; --gpus N says how many there are")
    cases = scaling_cases(args, [ranks for ranks in (1, 2, 4, 8) if ranks <= gpus])
    for turn in range(args.rounds):
        for case in cases[:: -1 if turn % 2 else 1]:
            mode, ranks, lanes = case
            if not budget.allows(case):
                continue
            try:
                with budget.charge(case):
                    speed, windows = our_step(args, budget.left(), args.config, lanes,
                                              args.precision, ranks)
            except Missing as reason:
                budget.took[case] = float("inf")
                rows.note(f"{args.config}, {ranks} ranks, {lanes} lanes: not measured: {reason}")
                continue
            keys = keys_of(args.config, lanes)
            rows.add("scaling", model=args.config, precision=args.precision, mode=mode, ranks=ranks,
                     lanes=lanes, round=turn, windows=windows, words_per_second=round(speed, 1),
                     milliseconds=round(1000 * keys["num_steps"] * lanes / speed, 4),
                     wire_bytes=wire_bytes(keys, ranks))


# --- all ----------------------------------------------------------------------------------------

def data_name(args):
    return pathlib.Path(args.data).name


def machine(args):
    """What a reader has to know of these rows."""
    command = "gpu.sh " + shlex.join(sys.argv[1:])
    try:
        version = "; ".join(line for line in run([args.program, "--version"], 60).splitlines()
                            if line.startswith(("ptb_dist", "git", "CUDA", "NCCL")))
    except Missing as reason:
        raise SystemExit(f"gpu.sh: error: {args.program}: {reason}; name ptb_dist by --program")
    try:
        gpu = "; ".join(run(["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm",
                             "--format=csv,noheader"], 60).splitlines())
    except Missing:
        gpu = "unknown: no nvidia-smi"
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return dict(date=date, gpu=gpu, program=version, data=data_name(args), command=command)


def parse_arguments(words):
    comma = lambda text: text.split(",")
    numbers = lambda text: [int(number) for number in text.split(",")]
    every = argparse.ArgumentParser(add_help=False)
    every.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    every.add_argument("--mpirun", default=f"{MPIRUN} --bind-to none")
    every.add_argument("--comm", default="auto", help="of ptb_dist, with several ranks")
    every.add_argument("--data", help="folder of the PTB texts, or synthetic")
    every.add_argument("--json", type=pathlib.Path, help="rows are added to it")
    every.add_argument("--minutes", type=float, default=9)
    every.add_argument("--windows", type=int, help="of a measurement, for all models")
    every.add_argument("--tiny", action="store_true",
                       help="shapes for the test of this script; their figures mean nothing")
    parser = argparse.ArgumentParser(prog="gpu.sh", description="Measures ptb_dist on a GPU.")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("compare", parents=[every], help="beside PyTorch (the default)")
    command.add_argument("--models", type=comma, default=list(CONFIGS))
    command.add_argument("--lanes", type=numbers, default=[20, 80, 320])
    command.add_argument("--precisions", type=comma, default=PRECISIONS)
    command.add_argument("--peers", type=comma, default=PEERS)
    command.add_argument("--rounds", type=int, default=5, help="as far as the time allows")
    command.add_argument("--python", default=sys.executable, help="an interpreter with torch")
    command.add_argument("--device", default="cuda", help="PyTorch's: cuda, or cpu for a test")
    command.add_argument("--tools", type=pathlib.Path,
                         help="folder of ptb_dist_gpu_floors and _phases; default: the program's")

    command = commands.add_parser("train", parents=[every], help="a configuration in full")
    command.add_argument("config", choices=[*CONFIGS, "tiny"])
    command.add_argument("--precision", default="bf16", choices=PRECISIONS)
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--ranks", type=int, default=1)
    command.add_argument("--run-dir", type=pathlib.Path, help="default: runs/gpu-...")
    command.epilog = "Behind --: flags of ptb_dist."

    command = commands.add_parser("scaling", parents=[every], help="1, 2, 4, 8 GPUs")
    command.add_argument("config", nargs="?", default="large", choices=[*CONFIGS, "tiny"])
    command.add_argument("--precision", default="bf16", choices=PRECISIONS)
    command.add_argument("--gpus", type=int, help="default: as many as nvidia-smi shows")
    command.add_argument("--weak-lanes", type=numbers, default=[80], help="of a GPU")
    command.add_argument("--strong-lanes", type=numbers, default=[640, 2560], help="of all GPUs")
    command.add_argument("--rounds", type=int, default=3)

    command = commands.add_parser("table", help="of rows that are there")
    command.add_argument("file", type=pathlib.Path)
    if not words or words[0].startswith("-") and words[0] not in ("-h", "--help"):
        words = ["compare", *words]
    own = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:own])
    args.flags = words[own + 1:]
    if args.command != "table":
        if args.tiny or getattr(args, "config", "") == "tiny":
            args.tiny, args.models, args.data = True, ["tiny"], "synthetic"
        if args.data != "synthetic":
            args.data = find_data(args.data)
        args.program = pathlib.Path(args.program).resolve()
    return args


def main():
    args = parse_arguments(sys.argv[1:])
    if args.command == "table":
        calls = []  # each begins with its machine
        for line in args.file.read_text().splitlines():
            row = json.loads(line)
            if not calls or "command" in row:
                calls.append([])
            calls[-1].append(row)
        for rows in calls:
            tables(rows)
        return 0
    budget = Budget(args.minutes)
    rows = Rows(args.json or pathlib.Path(f"gpu_{args.command}.jsonl"))
    rows.add("machine", **machine(args))
    command = {"compare": compare, "train": train, "scaling": scaling}[args.command]
    status = command(args, rows, budget)
    tables(rows.rows)
    print(f"\nRows: {rows.path}")
    return status


if __name__ == "__main__":
    sys.exit(main())
