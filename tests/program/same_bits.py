#!/usr/bin/env python3
"""Lane groups: the same bytes from every number of ranks. Trains on each number of ranks and
compares the final checkpoints and the best ones, byte for byte.

    python3 same_bits.py --program build/ptb_dist -- --lane-groups 8 FLAGS      a small model
    python3 same_bits.py --program build/ptb_dist --ptb -- --config small --lane-groups 8 --epochs 1

The second call trains an epoch on each number of ranks and needs $PTB_DATA. --expect-failure is for
programs with a defect that this test must find.
"""

import argparse
import pathlib
import sys
import tempfile

import program


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    program.add_arguments(parser)
    parser.add_argument("--ranks", default="1,2,4,8",
                        help="rank counts; all must equal the first")
    parser.add_argument("--ptb", action="store_true",
                        help="train what the flags say instead of the small model")
    parser.add_argument("--seconds", type=float,
                        help="that a run may take; default 50, or 3600 with --ptb")
    parser.add_argument("--expect-failure", action="store_true")
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    if args.ptb and not program.ptb_folder():
        print("skipped: PTB_DATA is unset")
        return program.SKIPPED

    data = ["--data", program.ptb_folder()] if args.ptb else program.SMALL_MODEL
    different = []
    with tempfile.TemporaryDirectory(prefix="ptb_dist_same_bits_") as folder:
        expected = None
        for ranks in map(int, args.ranks.split(",")):
            run_dir = pathlib.Path(folder, str(ranks))
            metrics = program.train([*data, *args.flags], run_dir, args.program, ranks=ranks,
                                    mpirun=args.mpirun,
                                    timeout=args.seconds or (3600 if args.ptb else 50))
            last = max(program.checkpoints(run_dir).items())[1]
            found = [path.read_bytes() for path in (last, run_dir / "checkpoints/best.h5")]
            expected = expected or found
            is_same = found == expected
            print(f"{ranks} ranks: {last.name}, test perplexity {metrics[-1]['perplexity']:.9g}: "
                  f"{'the same bytes' if is_same else 'OTHER BYTES'}", flush=True)
            if not is_same:
                different.append(ranks)
    if args.expect_failure:
        return 0 if different else "no rank count differed: this test does not find the defect"
    return f"other bytes on {different} ranks" if different else 0


if __name__ == "__main__":
    sys.exit(main())
