#!/usr/bin/env python3
"""What checkpoints cost: how long training waits for one, how long until it is on the disk.

    python3 tests/bench/checkpoint_cost.py --build build --data DIR [--config small,large]

Trains some windows with a checkpoint every few of them and reads the log line of each. "training
waited" is from the end of a window to the beginning of the next; "saved in" is the time of the
thread for digest, write, fsync and rename. Medians over all saves but the first, which touches new
memory. The share is of a minute of training, with one checkpoint a minute. Needs numpy.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import tempfile

from corpus import find_data
from speed import environment

WINDOWS = {"small": (110, 10), "medium": (55, 5), "large": (18, 3)}  # in all, to the next save


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--config", default="small,medium,large")
    args = parser.parse_args()
    args.data = find_data(args.data)
    print("| model | MB | training waits, s | saved in, s | saves | share of a minute |\n"
          "|---|---|---|---|---|---|")
    for config in args.config.split(","):
        windows, cadence = WINDOWS[config]
        with tempfile.TemporaryDirectory(prefix="ptb_dist_cost_") as scratch:
            out = subprocess.run(
                [str(args.build / "ptb_dist"), "--config", config, "--data", str(args.data),
                 "--max-windows", str(windows), "--checkpoint-windows", str(cadence), "--run-dir",
                 f"{scratch}/run"], env=environment(), check=True, text=True,
                stdout=subprocess.PIPE).stdout
        save_line = re.compile(r"\(([\d.]+) MB; training waited ([\d.]+) s, saved in ([\d.]+) s")
        saves = save_line.findall(out)[1:]
        size, waited, saved = (statistics.median(map(float, column)) for column in zip(*saves))
        print(f"| {config} | {size:.1f} | {waited:.3f} | {saved:.3f} | {len(saves)} | "
              f"{waited / 60:.2%} |", flush=True)


if __name__ == "__main__":
    main()
