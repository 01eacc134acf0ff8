#!/usr/bin/env python3
"""Training speed of ptb_dist beside PyTorch's, on the same cores in the same minutes.

For every model and precision, rounds of: one thread, two threads, two ranks of one thread; ours
and the peer's (peer_pytorch.py) in turn, the order turned round in every second round, so that a
busy or throttled machine slows both. Medians over the rounds, words/s:

    ours    global words / seconds between the first and the last progress record of the run's
            metrics; of the first record alone (11 windows, cold start included) if there is one
    peer    T*B / median time of a window, after a warm-up: the kinder measure of the two
    ratio   our best variant / the peer's best variant; in bf16 the peer's best of any precision

Run (needs torch and numpy; mpirun for the ranks):

    python3 tests/bench/speed.py --build build --data DIR                   # fp32, three models
    python3 tests/bench/speed.py --build build --data DIR --config small --precision fp32,bf16

Expect a line of progress for every run, then tables in Markdown with the goals beside the figures,
and the raw records in --json FILE. An hour for three models in fp32 with three rounds on two cores.
The exit status is 0 whatever the ratios, unless --check is given: then 1 if a goal is missed.
With ptb_dist_bench_products in the build folder, its rate of the matrix products alone is measured
in the same rounds (fp32), and it is said how much of it the training reaches.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

from corpus import CONFIGS, find_data, flop_per_word
from peer_pytorch import VARIANTS, measure  # variant -> ranks, threads

TITLES = {"threads1": "1 thread", "threads2": "2 threads", "processes2": "2 processes"}
# Up to the second progress record (window 10 + a tenth of the epoch); large: up to the first.
OUR_WINDOWS = {"small": 243, "medium": 143, "large": 11}
PEER_WINDOWS = {"small": 60, "medium": 20, "large": 6}
RATIO_GOALS = {"fp32": {"small": 1.6, "medium": 1.2, "large": 1.6},
               "bf16": {"small": 2.0, "medium": 1.7, "large": 2.4}}
RANKS_GOALS = {"fp32": 0.88, "bf16": 0.80}  # two ranks of one thread / one rank of two threads
OWN_GOAL = 1.7                              # our bf16 / our fp32
PRODUCTS_GOAL = 0.80                        # fp32 training / matrix product rate


def environment():
    return dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def run(command):
    result = subprocess.run(command, env=environment(), text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)
    if result.returncode != 0:
        sys.exit(f"exit status {result.returncode} of {' '.join(command)}\n{result.stdout}")
    return result.stdout


def words_per_second(metrics, keys):
    """Between the first and the last progress record, or of the only one."""
    marks = [record for record in metrics if record["kind"] == "progress"]
    if not marks:
        sys.exit("no progress record in the metrics: too few windows?")
    first, last = marks[0], marks[-1]
    windows = last["window"] - first["window"]
    if windows == 0:
        return first["words_per_second"]
    words = windows * keys["num_steps"] * keys["batch_size"]
    return words / (last["seconds"] - first["seconds"])


def measure_ours(args, config, variant, precision, flags=()):
    ranks, threads = VARIANTS[variant]
    windows = args.windows or OUR_WINDOWS[config]
    with tempfile.TemporaryDirectory(prefix="ptb_dist_speed_") as scratch:
        command = [str(args.build / "ptb_dist"), "--config", config, "--data", str(args.data),
                   "--backend", "cpu", "--precision", precision, "--threads", str(threads),
                   "--max-windows", str(windows), "--run-dir", f"{scratch}/run", *flags]
        if ranks > 1:
            command = ["mpirun", "-np", str(ranks), "--bind-to", "none", *command]
        run(command)
        lines = pathlib.Path(scratch, "run", "metrics.jsonl").read_text().splitlines()
    speed = words_per_second([json.loads(line) for line in lines], CONFIGS[config])
    return dict(program="ptb_dist", config=config, variant=variant, precision=precision,
                words_per_second=round(speed, 1), windows=windows)


def measure_peer(args, config, variant, precision):
    return measure(sys.executable, args.data, config, variant, precision,
                   windows=args.peer_windows or PEER_WINDOWS[config], warm_up=3)


def measure_products(args, config, variant, precision):
    """Rate of all matrix products of a window, on as many cores as the variant uses."""
    ranks, threads = VARIANTS[variant]
    lines = run([str(args.build / "ptb_dist_bench_products"), "--config", config, "--threads",
                 str(ranks * threads)]).splitlines()
    record = next(json.loads(line) for line in lines if line.startswith("{"))
    return dict(record, program="products", precision=precision)


def all_runs(args):
    """Every record of every round, each shown when it is there."""
    records = []

    def keep(record):
        records.append(record)
        print(json.dumps(record), flush=True)

    has_products = (args.build / "ptb_dist_bench_products").is_file()
    for config in args.config:
        for turn in range(args.rounds):
            steps = [(program, variant, precision) for precision in args.precision
                     for variant in args.variant for program in (measure_ours, measure_peer)]
            if has_products and "fp32" in args.precision:  # it measures fp32 only
                steps.append((measure_products, args.variant[-1], "fp32"))
            for program, variant, precision in steps[:: -1 if turn % 2 else 1]:
                keep(program(args, config, variant, precision))
    return records


class Summary:
    """Medians over the rounds, and the judgement of the goals."""

    def __init__(self, records, args):
        self.args, self.missed = args, []
        self.speeds = {}  # (program, config, variant, precision) -> [words/s]
        self.rates = {}   # config -> [GFLOP/s], fp32
        for r in records:
            if r["program"] == "products":
                self.rates.setdefault(r["config"], []).append(r["gflops"])
            else:
                key = (r["program"], r["config"], r["variant"], r["precision"])
                self.speeds.setdefault(key, []).append(r["words_per_second"])

    def median(self, program, config, variant, precision):
        return statistics.median(self.speeds[program, config, variant, precision])

    def best(self, program, config, precisions):
        return max(self.median(program, config, variant, precision)
                   for variant in self.args.variant for precision in precisions)

    def goal(self, what, value, goal):
        verdict = "met" if value >= goal else "missed"
        if value < goal:
            self.missed.append(what)
        print(f"- {what}: {value:.2f} (goal {goal:.2f}, {verdict})")

    def table(self, config, precision):
        """One Markdown table: a row a program, median [lowest - highest] a variant."""
        print(f"\n**{config}, {precision}** (words/s, medians of {self.args.rounds} rounds)\n")
        print("| | " + " | ".join(TITLES[v] for v in self.args.variant) + " |")
        print("|---" * (len(self.args.variant) + 1) + "|")
        for program in ("ptb_dist", "pytorch"):
            cells = []
            for variant in self.args.variant:
                values = self.speeds[program, config, variant, precision]
                cells.append(f"{statistics.median(values):,.0f} "
                             f"[{min(values):,.0f} - {max(values):,.0f}]")
            print(f"| {program} | " + " | ".join(cells) + " |")
        print()

    def judge(self, config, precision):
        ours = self.best("ptb_dist", config, [precision])
        rivals = self.args.precision if precision == "bf16" else [precision]
        self.goal(f"{config} {precision}, ours / best of PyTorch in {' or '.join(rivals)}",
                  ours / self.best("pytorch", config, rivals), RATIO_GOALS[precision][config])
        if {"threads2", "processes2"} <= set(self.args.variant):
            self.goal(f"{config} {precision}, two ranks / two threads",
                      self.median("ptb_dist", config, "processes2", precision)
                      / self.median("ptb_dist", config, "threads2", precision),
                      RANKS_GOALS[precision])
        if precision == "bf16" and "fp32" in self.args.precision:
            self.goal(f"{config}, our bf16 / our fp32",
                      ours / self.best("ptb_dist", config, ["fp32"]), OWN_GOAL)
        if precision == "fp32" and config in self.rates:
            reached = ours * flop_per_word(CONFIGS[config]) / 1e9
            rate = statistics.median(self.rates[config])
            self.goal(f"{config} fp32, {reached:.0f} GFLOP/s / {rate:.0f} of the products alone",
                      reached / rate, PRODUCTS_GOAL)


def machine():
    """Processor and cores, for the reader of the tables."""
    info = pathlib.Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
             if line.startswith("model name")] if info.is_file() else []
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    comma = lambda text: text.split(",")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--data", help="folder of the PTB texts (else $PTB_DATA, data/ptb)")
    parser.add_argument("--config", type=comma, default=list(CONFIGS), help="models, with commas")
    parser.add_argument("--precision", type=comma, default=["fp32"], help="fp32, bf16 or both")
    parser.add_argument("--variant", type=comma, default=list(VARIANTS), help="with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--windows", type=int, help="of ours, for all models")
    parser.add_argument("--peer-windows", type=int, help="timed windows of the peer")
    parser.add_argument("--json", type=pathlib.Path, help="raw records, one a line")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a goal is missed")
    return parser.parse_args()


def main():
    args = parse_arguments()
    args.build, args.data = args.build.resolve(), find_data(args.data)
    if not (args.build / "ptb_dist").is_file():
        sys.exit(f"no ptb_dist in {args.build}; build it, or name the folder by --build")
    records = all_runs(args)
    if args.json:
        args.json.write_text("".join(json.dumps(record) + "\n" for record in records))

    version = next(r["version"] for r in records if r["program"] == "pytorch")
    ours = run([str(args.build / "ptb_dist"), "--version"]).splitlines()[0]
    print(f"\n{ours}, PyTorch {version}; {machine()}, load {os.getloadavg()[0]:.1f} at the end")
    summary = Summary(records, args)
    for config in args.config:
        for precision in args.precision:
            summary.table(config, precision)
            summary.judge(config, precision)
    return 1 if args.check and summary.missed else 0


if __name__ == "__main__":
    sys.exit(main())
