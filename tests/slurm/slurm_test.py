#!/usr/bin/env python3
"""launch/ptb_dist.sbatch on a real Slurm: jobs that are preempted, cancelled, lose a node, ...

    python3 slurm_test.py --program build/ptb_dist [--long] [NAME...]

The cases run side by side in one cluster (cluster.py), each on nodes of its own. A run that goes on
ends with the final checkpoint of one that nobody disturbed, byte for byte, and with its metrics.
Those of short_cases.py, of long_cases.py with --long, or by their names. Needs root and Slurm's
daemons (the right "slurm" of support/rights.py).
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import sys
import tempfile
import time
import unittest

import cluster
from case import RUN, TESTS, program, world
from long_cases import ALONE, LONG, PARTS
from short_cases import NOT_YET, SHORT

sys.path.insert(0, str(TESTS / "support"))
import rights  # noqa: E402


def dealt_nodes(cases):
    """The names of the nodes of each case, and all of them."""
    names, first = {}, 1
    for case in cases:
        names[case] = [f"node{i}" for i in range(first, first + case.nodes)]
        first += case.nodes
    return names, sum(names.values(), [])


def run_side_by_side(cases):
    """Whether all have passed. Prints the failures, and how long each took."""

    def run(case):
        result = unittest.TestResult()
        began = time.monotonic()
        case("test").run(result)
        return case, result, time.monotonic() - began

    passed = True
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run, case) for case in cases]):
            case, result, seconds = future.result()
            print(f"{case.__name__}: {'ok' if result.wasSuccessful() else 'FAILED'} "
                  f"({seconds:.1f} s)", flush=True)
            for _, text in result.failures + result.errors:
                print(text, flush=True)
            passed = passed and result.wasSuccessful()
    return passed


def undisturbed(run_dir):
    ended = program.run([*RUN, "--run-dir", str(run_dir)], world.program)
    if ended.status != 0:
        raise RuntimeError(ended.out + ended.err)
    return run_dir


def run_in_a_cluster(cases):
    world.nodes, nodes = dealt_nodes(cases)
    partitions = sum((case.partition_lines(world.nodes[case]) for case in cases), [])
    os.environ.update(program.environment(dict(OMPI_MCA_mpi_yield_when_idle="1")))
    with tempfile.TemporaryDirectory(prefix="ptb_dist_slurm_") as folder:
        world.cluster = cluster.Cluster(folder, nodes, max(case.node_seconds for case in cases),
                                        partitions)
        world.cluster.start()
        # Of Open MPI, which leaves files when it is killed.
        os.environ["TMPDIR"] = str(world.cluster.dir / "scratch")
        os.mkdir(os.environ["TMPDIR"])
        world.expected = undisturbed(world.cluster.dir / "undisturbed")
        passed = run_side_by_side(cases)
        if not passed:
            for log in sorted(world.cluster.dir.glob("slurm*.log")):
                print(f"--- {log.name}", *log.read_text().splitlines()[-30:], sep="\n")
    return passed


def main():
    known = {case.__name__: case for case in SHORT + NOT_YET + LONG + PARTS + ALONE}
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seeds", type=int, default=8, help="of AtRandom0 to AtRandom3 together")
    parser.add_argument("--figures", type=pathlib.Path, help="a JSON file for what was measured")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"no such case: {', '.join(unknown)}; cases are {', '.join(known)}")
    if why := rights.lacking("slurm"):
        print(f"PTB_DIST_REQUIRE has {why}" if rights.is_required("slurm") else f"skipped: {why}")
        return 1 if rights.is_required("slurm") else rights.SKIPPED
    cluster.isolate()
    world.program, world.seeds = options.program, options.seeds
    passed = run_in_a_cluster([known[name] for name in options.names] or
                              (LONG if options.long else SHORT))
    if options.figures:
        options.figures.write_text(json.dumps(world.figures))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
