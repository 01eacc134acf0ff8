#!/usr/bin/env python3
"""What lane groups cost: training speed with and without them, in turn on the same machine.

    python3 tests/bench/lane_groups.py --build build --data DIR [--rounds 3] [--config small,medium]

For 1 and 2 ranks of one thread: no groups, as many groups as ranks, 8 groups. Every round runs all
of them, every second round in reverse order. Prints words/s between the first and the last progress
record (speed.py), medians, and ratios to runs without groups in the same rounds. Then the memory of
a batch of 320 lanes as 1, 4 and 16 groups: the peak of the process over two windows.
About 15 minutes for small and medium with three rounds on two idle cores. Needs numpy.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from corpus import find_data
from speed import environment, measure_ours

GOAL = 0.87  # as many groups as ranks / no groups


def speed(args, config, ranks, groups):
    variant = "threads1" if ranks == 1 else "processes2"
    flags = ["--lane-groups", str(groups)]
    return measure_ours(args, config, variant, "fp32", flags)["words_per_second"]


def peak_memory(args, groups):
    """The most that the process of a rank had, in MiB."""
    with tempfile.TemporaryDirectory(prefix="ptb_dist_groups_") as scratch:
        process = subprocess.Popen(
            [str(args.build / "ptb_dist"), "--config", "small", "--data", str(args.data),
             "--threads", "1", "--lane-groups", str(groups), "--batch-size", "320",
             "--max-windows", "2", "--run-dir", f"{scratch}/run"],
            env=environment(), stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"status {status} of a run with {groups} groups")
    return used.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--config", default="small,medium")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--windows", type=int,
                        help="of a run; default: a tenth of an epoch and more")
    args = parser.parse_args()
    args.data = find_data(args.data)

    print("| model | ranks | groups | words/s | / no groups |\n|---|---|---|---|---|")
    for config in args.config.split(","):
        cases = [(ranks, groups) for ranks in (1, 2) for groups in (0, ranks, 8)]
        found = {case: [] for case in cases}
        for number in range(args.rounds):
            for case in cases if number % 2 == 0 else cases[::-1]:
                found[case].append(speed(args, config, *case))
                print(f"{config} {case}: {found[case][-1]:.0f}", file=sys.stderr, flush=True)
        for ranks, groups in cases:
            ratios = [a / b for a, b in zip(found[ranks, groups], found[ranks, 0])]
            goal = f" (goal {GOAL})" if groups == ranks else ""
            print(f"| {config} | {ranks} | {groups or 'none'} | "
                  f"{statistics.median(found[ranks, groups]):.0f} | "
                  f"{statistics.median(ratios):.3f}{goal} |", flush=True)
    print("\n| 320 lanes of small as | peak memory, MiB |\n|---|---|")
    for groups in (1, 4, 16):
        print(f"| {groups} groups | {peak_memory(args, groups):.0f} |", flush=True)


if __name__ == "__main__":
    main()
