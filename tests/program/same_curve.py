#!/usr/bin/env python3
"""Are the losses the same on every number of ranks?

Trains the same model on each number of ranks and compares every window's loss and gradient norm
with those of the first number, up to rounding (configs/README.md). Prints the largest
relative differences. The exit status is 1 if one is over its bound, 77 if --ptb has no data.

    python3 same_curve.py --program build/ptb_dist --ranks 1,2,8 --windows 10 --bound 1e-5 -- FLAGS

FLAGS are the program's; without --ptb they come after those of a small model on a small synthetic
corpus. --report prints a table for a document and checks no bound (minutes to an hour; $PTB_DATA is
the folder of the Penn Treebank):

    python3 same_curve.py --program build/ptb_dist --ptb --report --windows 10 -- --config small
    python3 same_curve.py --program build/ptb_dist --ptb --report --windows 200 --ranks 1,2,8 \\
        --seconds 3600 -- --config medium --learning-rate 0.1
"""

import argparse
import pathlib
import sys
import tempfile

import program

MEASURES = ("loss", "gradient_norm")


def curve(args, ranks, scratch):
    flags = [*args.data, *args.flags, "--max-windows", str(args.windows)]
    metrics = program.train(flags, scratch / str(ranks), args.program, ranks=ranks,
                            mpirun=args.mpirun, timeout=args.seconds)
    windows = [record for record in metrics if record["kind"] == "window"]
    if [w["step"] for w in windows] != list(range(args.windows)):
        raise RuntimeError(f"{ranks} ranks: {len(windows)} window records, not {args.windows}")
    return windows


def largest_differences(curve_a, curve_b):
    return {measure: max(program.relative_difference(a[measure], b[measure])
                         for a, b in zip(curve_a, curve_b, strict=True))
            for measure in MEASURES}


def compare(args):
    """[(ranks, differences from the first number of ranks)]"""
    with tempfile.TemporaryDirectory(prefix="ptb_dist_same_curve_") as scratch:
        reference = curve(args, args.ranks[0], pathlib.Path(scratch))
        rows = []
        for ranks in args.ranks[1:]:
            found = curve(args, ranks, pathlib.Path(scratch))
            rows.append((ranks, largest_differences(reference, found)))
            if not args.report:
                print(f"{ranks} ranks against {args.ranks[0]}, {args.windows} windows:",
                      ", ".join(f"{m} {rows[-1][1][m]:.1e}" for m in MEASURES), flush=True)
    return rows, reference


def report(args, rows, reference):
    print(f"`{' '.join(args.flags)}`, {args.windows} windows, loss {reference[0]['loss']:.3f} to "
          f"{reference[-1]['loss']:.3f}; against {args.ranks[0]} rank(s):\n")
    print("| ranks | largest relative difference of a loss | of a gradient norm |\n|---|---|---|")
    for ranks, differences in rows:
        print(f"| {ranks} | {differences['loss']:.1e} | {differences['gradient_norm']:.1e} |")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    program.add_arguments(parser)
    parser.add_argument("--ranks", type=lambda text: [int(n) for n in text.split(",")],
                        default=[1, 2, 3, 4, 8], help="with commas; the first is compared against")
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--bound", type=float, default=1e-5, help="of losses")
    parser.add_argument("--norm-bound", type=float, help="of gradient norms; else 10 times that of "
                        "losses, most of which does not depend on the weights")
    parser.add_argument("--seconds", type=float, default=50, help="that one run may take")
    parser.add_argument("--ptb", action="store_true", help="train on $PTB_DATA")
    parser.add_argument("--report", action="store_true", help="print a table, judge nothing")
    parser.add_argument("--expect-failure", action="store_true",
                        help="the program is known to be wrong: succeed if that is found")
    parser.add_argument("flags", nargs="*", help="of the program, behind --")
    args = parser.parse_args()
    if args.ptb:
        args.data = ["--data", program.ptb_folder() or sys.exit(program.SKIPPED)]
    else:
        args.data, args.flags = [], program.SMALL_MODEL + args.flags
    args.norm_bound = args.norm_bound or 10 * args.bound
    return args


def main():
    args = parse_arguments()
    rows, reference = compare(args)
    if args.report:
        report(args, rows, reference)
        return 0
    bounds = dict(loss=args.bound, gradient_norm=args.norm_bound)
    wrong = [f"{ranks} ranks: {m} differs by {differences[m]:.1e}, the bound is {bounds[m]:.1e}"
             for ranks, differences in rows for m in MEASURES if not differences[m] <= bounds[m]]
    for sentence in wrong:
        print(sentence)
    return 0 if bool(wrong) == args.expect_failure else 1


if __name__ == "__main__":
    sys.exit(main())
