#!/usr/bin/env python3
"""The program behind gpu.sh. gpu.sh says how to call it, gpu_measure.py what is measured, and
gpu_session.py what the calls with --out do."""

import argparse
import contextlib
import datetime
import pathlib
import shlex
import signal
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "gpu"))

import gpu_machine
import gpu_process
import gpu_session
from corpus import CONFIGS, find_data
from gpu_measure import (CASE_SECONDS, Budget, Peer, Rows, add_clocks, keys_of, launched,
                         measure_floors, measure_phases, measure_rounds, model_flags, our_step,
                         training_row)
from gpu_process import Missing
from gpu_tables import (PEERS, PRECISIONS, PUBLISHED_VALID, all_tables, lanes_of_a_rank, read_rows,
                        tables)
from speed import environment

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM, MPIRUN = PROJECT / "build/ptb_dist", "mpirun"
if (PROJECT / "bin/mpirun").is_file():  # not the project, but what launch/bundle.sh --tests made
    PROGRAM, MPIRUN = PROJECT / "bin/ptb_dist", shlex.quote(str(PROJECT / "bin/mpirun"))

# Behind a call's own time: for a training that is asked to stop, which saves; and for whatever is
# last to be stopped, and for the tables. With the 8.5 minutes they are less than nine.
SAVE_SECONDS, LAST_SECONDS = 20, 24


# --- compare ------------------------------------------------------------------------------------

def compare(args, rows, budget):
    with contextlib.closing(Peer(args)) as peer:
        measure_floors(args, rows, budget, "chip,chain,graphs,barrier,read")
        for model in args.models:
            for precision in args.precisions:
                # At the fewest lanes, where a step is worth looking at first.
                measure_phases(args, rows, budget, model, min(args.lanes), precision)
        measure_rounds(args, rows, budget, peer, range(args.rounds))


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
        try:
            status = process.wait(SAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
            gpu_process.end_all()
    seconds = time.monotonic() - start
    if status == 75:
        rows.note(f"{model} {args.precision}: not at its end after {args.minutes:g} minutes; the "
                  f"same command goes on from {run_dir}")
        return status
    if status != 0:
        rows.note(f"{model} {args.precision}: no result, ptb_dist ended with {status}")
        return status
    training_row(args, rows, run_dir, seconds, PUBLISHED_VALID.get(model), model=model,
                 precision=args.precision, seed=args.seed, ranks=args.ranks, flags=args.flags,
                 is_resumed=is_resumed, has_checkpoints=True)
    return 0


# --- scaling ------------------------------------------------------------------------------------

def count_gpus():
    try:
        return len(gpu_process.run(["nvidia-smi", "-L"], 60, environment()).splitlines())
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
                with budget.charge(case), budget.hang_counts(args.precision):
                    speed, windows = our_step(args, budget.limit(args.case_seconds), args.config,
                                              lanes, args.precision, ranks)
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
        lines = gpu_process.run([args.program, "--version"], 60 * args.scale_limits,
                                environment()).splitlines()
    except Missing as reason:
        raise SystemExit(f"gpu.sh: error: {args.program}: {reason}; name ptb_dist by --program")
    version = "; ".join(line for line in lines
                        if line.startswith(("ptb_dist", "git", "CUDA", "NCCL")))
    found = gpu_machine.machine()
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return dict(date=date, gpu=gpu_machine.line(found), program=version, data=data_name(args),
                command=command, run_directories=str(gpu_process.memory_folder()), **found)


def parse_arguments(words):
    comma = lambda text: text.split(",")
    numbers = lambda text: [int(number) for number in text.split(",")]
    every = argparse.ArgumentParser(add_help=False)
    every.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    every.add_argument("--mpirun", default=f"{MPIRUN} --bind-to none")
    every.add_argument("--comm", default="auto", help="of ptb_dist, with several ranks")
    every.add_argument("--data", help="folder of the PTB texts, or synthetic")
    every.add_argument("--json", type=pathlib.Path, help="rows are added to it")
    every.add_argument("--minutes", type=float, default=8.5)
    every.add_argument("--case-seconds", type=float, default=CASE_SECONDS, help="a step's limit")
    every.add_argument("--windows", type=int, help="of a measurement, for all models")
    every.add_argument("--tiny", action="store_true",
                       help="shapes for the test of this script; their figures mean nothing")
    every.add_argument("--scale-limits", type=float, default=1.0, help="for that test")
    beside = argparse.ArgumentParser(add_help=False)
    beside.add_argument("--models", type=comma, default=list(CONFIGS))
    beside.add_argument("--lanes", type=numbers, default=[20, 80, 320])
    beside.add_argument("--precisions", type=comma, default=PRECISIONS)
    beside.add_argument("--peers", type=comma, default=PEERS)
    beside.add_argument("--python", default=sys.executable, help="an interpreter with torch")
    beside.add_argument("--device", default="cuda", help="PyTorch's: cuda, or cpu for a test")
    beside.add_argument("--tools", type=pathlib.Path,
                        help="folder of ptb_dist_gpu_floors and _phases; default: the program's")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--out", type=pathlib.Path, help="folder for all that is measured")
    folder.add_argument("--build", type=pathlib.Path, default=PROJECT / "build",
                        help="whose GPU suite is run; in a bundle its own")
    folder.add_argument("--suite", type=pathlib.Path, help="another list of its tests")
    parser = argparse.ArgumentParser(prog="gpu.sh", description="Measures ptb_dist on a GPU.")
    commands = parser.add_subparsers(dest="command", required=True)

    commands.add_parser("first", parents=[every, beside, folder],
                        help="does it run, how fast, and why; needs --out")
    commands.add_parser("tools", parents=[every, beside, folder],
                        help="ranks on one GPU, compute-sanitizer, variants; needs --out")

    command = commands.add_parser("compare", parents=[every, beside],
                                  help="beside PyTorch (the default)")
    command.add_argument("--rounds", type=int, default=5, help="as far as the time allows")

    command = commands.add_parser("train", parents=[every, beside, folder],
                                  help="a configuration in full; without one all three, with --out")
    command.add_argument("config", nargs="?", choices=[*CONFIGS, "tiny"])
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
        args.is_session = args.command in ("first", "tools") or (
            args.command == "train" and args.config is None)
        if args.is_session != (getattr(args, "out", None) is not None):
            parser.error(f"{args.command}: --out DIR belongs to first, tools, and train without a "
                         "configuration")
    return args


def main():
    args = parse_arguments(sys.argv[1:])
    if args.command == "table":
        all_tables(read_rows(args.file))
        return 0
    budget = Budget(args.minutes, args.scale_limits)
    gpu_process.guard(budget.left() + LAST_SECONDS)
    gpu_process.adopt_orphans()
    signal.signal(signal.SIGTERM, end)
    try:
        return measure(args, budget)
    finally:  # what was started does not outlive it, even where the signal came while it was
        gpu_process.end_all()


def end(number, _):
    signal.signal(number, signal.SIG_IGN)  # once is enough, and another would disturb the end
    sys.exit(128 + number)


def measure(args, budget):
    """The exit status."""
    gpu_machine.PATIENCE *= args.scale_limits
    folder = gpu_session.Folder(args.out) if args.is_session else None
    rows = Rows(folder.rows if folder else args.json or pathlib.Path(f"gpu_{args.command}.jsonl"))
    rows.add("machine", **machine(args))
    sampler = gpu_machine.Sampler()
    with contextlib.ExitStack() as stack:
        if rows.rows[0]["gpus"]:  # nvidia-smi answers
            stack.enter_context(sampler)
            gpu_process.kept.update([sampler.process.pid] if sampler.process else [])
        if folder:
            status = gpu_session.run(args, rows, budget, folder, sampler)
        else:
            status = {"compare": compare, "train": train, "scaling": scaling}[args.command](
                args, rows, budget)
            add_clocks(rows, sampler, args.command)
    tables(rows.rows)
    print(f"\nRows: {rows.path}")
    return status


if __name__ == "__main__":
    sys.exit(main())
