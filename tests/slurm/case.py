"""What the cases of slurm_test.py share: one job in a partition with its own nodes."""

import os
import pathlib
import re
import sys
import time
import unittest

import cluster
from cluster import wait_for

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "program"))
import program  # noqa: E402
from resume_test import timeless  # noqa: E402

SCRIPT = TESTS.parent / "launch/ptb_dist.sbatch"
WINDOWS = 118
RUN = ["--config", "small", "--hidden-size", "16", "--num-steps", "7", "--keep-prob", "0.5",
       "--data", "synthetic", "--synthetic-tokens", "8400", "--synthetic-vocab", "300",
       "--vocab-size", "300", "--epochs", "2", "--lane-groups", "4", "--threads", "1",
       "--metrics-windows", "1", "--checkpoint-windows", "5"]
SLOW = "--inject slow@1:0"  # 200 ms a window
KILLED = 137


class world:
    """Where the cases run; set by slurm_test.py."""

    program = None   # the ptb_dist that is tried
    seeds = 0        # of disturbances at random
    cluster = None
    nodes = {}       # names, of each case
    expected = None  # the run directory of an undisturbed run
    figures = []     # what was measured


def tell(kind, **numbers):
    """For the figures: seconds, by name."""
    world.figures.append(
        {"kind": kind, **{name: round(value, 1) for name, value in numbers.items()}})


class Case(unittest.TestCase):
    """One job, in a partition with its own nodes."""

    nodes = 2
    tasks_per_node = 1
    node_seconds = 5  # that a node may not answer before it is down

    @classmethod
    def partition(cls):
        return cls.__name__.lower()

    @classmethod
    def partition_lines(cls, nodes):
        """Of slurm.conf."""
        return [f"PartitionName={cls.partition()} Nodes={','.join(nodes)} MaxTime=INFINITE"]

    def setUp(self):
        self.hosts = [world.cluster.hosts[name] for name in world.nodes[type(self)]]
        self.work = world.cluster.dir / "work" / self.partition()
        self.work.mkdir(parents=True)
        self.flags = self.work / "flags"
        self.flags.write_text("")
        # What it adds to the command can change from attempt to attempt.
        self.program = self.work / "ptb_dist"
        self.program.write_text(f'#!/bin/sh\nexec {world.program} "$@" '
                                f"$(cat {self.flags})\n")
        self.program.chmod(0o755)

    def submit(self, *arguments, nodes=2, tasks_per_node=None, script=SCRIPT, flags=(), **changes):
        job = world.cluster.submit(
            [f"--partition={self.partition()}", f"--nodes={nodes}",
             f"--ntasks-per-node={tasks_per_node or self.tasks_per_node}", *flags], script,
            ["--program", str(self.program), *arguments, *RUN], self.work, **changes)
        self.addCleanup(job.cancel)
        return job

    def run_dir(self, job):
        return self.work / f"runs/small-{job.number}"

    def windows(self, run_dir):
        """How many windows the records have."""
        try:
            text = (run_dir / "metrics.jsonl").read_text()
        except FileNotFoundError:
            return 0
        return len(re.findall('"kind": *"window"', text))

    def wait_for_windows(self, job, count, run_dir=None):
        wait_for(lambda: self.windows(run_dir or self.run_dir(job)) >= count,
                 lambda: f"{count} windows of job {job.number}:\n{job.text()}")

    def check_finished(self, job, run_dir=None, seconds=cluster.PATIENCE):
        """The job is done, with the result of a run that nobody disturbed."""
        self.assertEqual(job.wait(seconds), ("COMPLETED", 0), job.text())
        self.check_result(run_dir or self.run_dir(job))

    def check_result(self, run_dir):
        self.assertEqual(timeless(run_dir), timeless(world.expected))
        for of_run in (lambda folder: program.checkpoints(folder)[WINDOWS],
                       lambda folder: folder / "checkpoints/best.h5"):
            self.assertEqual(of_run(run_dir).read_bytes(), of_run(world.expected).read_bytes())
        self.check_nothing_is_left(run_dir)

    def check_nothing_is_left(self, run_dir):
        for host in self.hosts:
            wait_for(lambda: not host.processes(world.program.name),
                     lambda: f"no rank on {host.name}: {host.processes(world.program.name)}", 10)
        left = [path.name for path in run_dir.iterdir()
                if ".tmp." in path.name or path.name.startswith(".end")]
        self.assertEqual(left, [])
