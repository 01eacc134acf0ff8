#!/usr/bin/env python3
"""How a rank's threads wait for each other: beside a busy neighbour, and on an idle machine.

    python3 tests/bench/busy_host.py --program build/ptb_dist [--pairs 7] [--hidden 100] [--alone]

One rank of two threads on two cores waits in three ways, one after the other: the program's own (a
bounded time, src/base/openmp_environment.cpp), OMP_WAIT_POLICY=passive, and libgomp's default of
300,000 rounds (GOMP_SPINCOUNT). First on the idle machine, then beside a shell that loops. Prints
words/s of the last progress record, and ratios of runs next to each other: median (least to most).
Bars: beside the shell at least 0.75 of passive, without it at least 0.97 of libgomp's default.

--alone (needs root) keeps other processes of the machine away: the first part runs under
SCHED_FIFO; in the second part the rank and its neighbour share a scheduling group of the greatest
weight.
About a minute on an idle machine.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

WAYS = {"own": {}, "passive": {"OMP_WAIT_POLICY": "passive"},
        "libgomp": {"GOMP_SPINCOUNT": "300000"}}


def words_per_second(args, way, before):
    with tempfile.TemporaryDirectory(prefix="ptb_dist_busy_") as scratch:
        subprocess.run(
            [*before, args.program, "--config", "small", "--hidden-size", args.hidden,
             "--data", "synthetic", "--synthetic-tokens", "60000", "--synthetic-vocab", "2000",
             "--vocab-size", "2000", "--max-windows", "140", "--threads", "2",
             "--run-dir", f"{scratch}/run"],
            env={"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                 **os.environ, **WAYS[way]},
            stdout=subprocess.DEVNULL, check=True)
        lines = pathlib.Path(scratch, "run/metrics.jsonl").read_text().splitlines()
    return [record["words_per_second"] for record in map(json.loads, lines)
            if record["kind"] == "progress"][-1]


@contextlib.contextmanager
def busy_neighbour():
    process = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(args, title, before=()):
    speeds = {way: [] for way in WAYS}
    for round_ in range(args.pairs):
        for way in list(WAYS)[::1 if round_ % 2 == 0 else -1]:
            speeds[way].append(words_per_second(args, way, before))
    print(title)
    for way, values in speeds.items():
        ratios = [own / other for own, other in zip(speeds["own"], values)]
        print(f"  {way:8} {statistics.median(values):8.0f} words/s; own / {way}: "
              f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
              flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="a ptb_dist")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--hidden", default="100", help="units of a layer")
    parser.add_argument("--alone", action="store_true")
    args = parser.parse_args()
    args.program = str(pathlib.Path(args.program).resolve())

    measure(args, "no neighbour", ["chrt", "--fifo", "10"] if args.alone else [])
    if args.alone:
        os.setsid()  # a group of its own, where sched_autogroup is on
        pathlib.Path("/proc/self/autogroup").write_text("-20")
    with busy_neighbour():
        measure(args, "beside a busy neighbour")


if __name__ == "__main__":
    main()
