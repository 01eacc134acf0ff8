#!/usr/bin/env python3
"""launch/ptb_dist.sbatch on a real Slurm: jobs that are preempted, cancelled, lose a node, ...

    python3 slurm_test.py --program build/ptb_dist [--long] [-v] [NAME...]

The cases run side by side in one cluster (cluster.py), each on nodes of its own. A run that goes on
ends with the final checkpoint of one that nobody disturbed, byte for byte, and with its metrics.
NAME: a case, or several; --long: those that take minutes. Needs root and Slurm's daemons (the right
"slurm" of support/rights.py).
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parent.parent
for folder in ("support", "program"):
    sys.path.insert(0, str(TESTS / folder))
import cluster as slurm  # noqa: E402
import program  # noqa: E402
import rights  # noqa: E402
from cluster import wait_for  # noqa: E402
from resume_test import timeless  # noqa: E402

SCRIPT = TESTS.parent / "launch/ptb_dist.sbatch"
WINDOWS = 118
RUN = ["--config", "small", "--hidden-size", "16", "--num-steps", "7", "--keep-prob", "0.5",
       "--data", "synthetic", "--synthetic-tokens", "8400", "--synthetic-vocab", "300",
       "--vocab-size", "300", "--epochs", "2", "--lane-groups", "4", "--threads", "1",
       "--metrics-windows", "1", "--checkpoint-windows", "5"]
SLOW = "--inject slow@1:0"  # 200 ms a window
STOPPED, KILLED = 75, 137

options = None      # of the command line
the_cluster = None
node_names = None   # of each case
expected = None     # the run directory of an undisturbed run
figures = []        # what was measured


def tell(kind, **numbers):
    figures.append({"kind": kind, **{name: round(value, 1) for name, value in numbers.items()}})


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
        self.hosts = [the_cluster.hosts[name] for name in node_names[type(self)]]
        self.work = the_cluster.dir / "work" / self.partition()
        self.work.mkdir(parents=True)
        self.flags = self.work / "flags"
        self.flags.write_text("")
        # What it adds to the command can change from attempt to attempt.
        self.program = self.work / "ptb_dist"
        self.program.write_text(f'#!/bin/sh\nexec {options.program} "$@" '
                                f"$(cat {self.flags})\n")
        self.program.chmod(0o755)

    def submit(self, *arguments, nodes=2, tasks_per_node=None, script=SCRIPT, flags=(), **changes):
        job = the_cluster.submit(
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

    def check_finished(self, job, run_dir=None, seconds=slurm.PATIENCE):
        """The job is done, with the result of a run that nobody disturbed."""
        self.assertEqual(job.wait(seconds), ("COMPLETED", 0), job.text())
        self.check_result(run_dir or self.run_dir(job))

    def check_result(self, run_dir):
        self.assertEqual(timeless(run_dir), timeless(expected))
        for path in (program.checkpoints(run_dir)[WINDOWS], run_dir / "checkpoints/best.h5"):
            same = program.checkpoints(expected)[WINDOWS] if "step" in path.name else (
                expected / "checkpoints/best.h5")
            self.assertEqual(path.read_bytes(), same.read_bytes(), path)
        self.check_nothing_is_left(run_dir)

    def check_nothing_is_left(self, run_dir):
        for host in self.hosts:
            wait_for(lambda: not host.processes(options.program.name),
                     lambda: f"no rank on {host.name}: {host.processes(options.program.name)}", 10)
        left = [path.name for path in run_dir.iterdir()
                if ".tmp." in path.name or path.name.startswith(".end")]
        self.assertEqual(left, [])


class Preempted:
    """Asked to save and to start again; `scancel -b` reaches the script as --signal does."""

    tasks_per_node = 2
    launcher = None
    times = 1

    def test(self):
        self.flags.write_text(SLOW)
        job = self.submit("--launcher", self.launcher)
        for restart in range(self.times):
            self.wait_for_windows(job, 8 * (restart + 1))
            if restart + 1 == self.times:
                self.flags.write_text("")
            began = time.monotonic()
            job.signal_script("USR1")
            job.wait_for_text(rf"{restart} node\d+ .*: {self.launcher} ended: exit status 75, "
                              "run stopped")
            ended = time.monotonic()
            windows = self.windows(self.run_dir(job))
            self.wait_for_windows(job, windows + 1)
            tell(f"preempted, {self.launcher}", to_exit=ended - began,
                 to_next_window=time.monotonic() - ended)
        self.check_finished(job)
        self.assertEqual(job.field("Restarts"), str(self.times))
        self.assertEqual(job.text().count(": requeue\n"), self.times, job.text())


class PreemptedUnderSrun(Preempted, Case):
    launcher = "srun"
    times = 2


class PreemptedUnderMpirun(Preempted, Case):
    launcher = "mpirun"


class NodeLost(Case):
    """A node is gone for good; the job goes on elsewhere, when Slurm has noticed it."""

    nodes = 3

    def test(self):
        self.flags.write_text(SLOW)
        job = self.submit("--launcher", "mpirun")
        self.wait_for_windows(job, 8)
        self.flags.write_text("")
        began = time.monotonic()
        self.hosts[1].crash()
        job.wait_for_text(": mpirun ended: exit status 205, run running")
        ended = time.monotonic()
        windows = self.windows(self.run_dir(job))
        self.wait_for_windows(job, windows + 1)
        tell("node lost, mpirun", to_exit=ended - began, to_next_window=time.monotonic() - ended)
        del self.hosts[1]
        self.check_finished(job)


class NodeBack(Case):
    """A node crashes and is back before Slurm has missed it; what it left is in the way of the
    first step of the next attempt."""

    times = 1

    def test(self):
        self.flags.write_text(SLOW + " --timeout 6")
        job = self.submit("--launcher", "srun")
        for restart in range(self.times):
            self.wait_for_windows(job, 8 * (restart + 1))
            if restart + 1 == self.times:
                self.flags.write_text("")
            began = time.monotonic()
            name = self.hosts[1].name
            self.hosts[1].crash()
            the_cluster.boot(name)
            self.hosts[1] = the_cluster.hosts[name]
            job.wait_for_text(rf"\[{job.number}\.{restart} .*: srun ended: exit status 70")
            ended = time.monotonic()
            windows = self.windows(self.run_dir(job))
            self.wait_for_windows(job, windows + 1)
            tell("node back, srun", to_exit=ended - began, to_next_window=time.monotonic() - ended)
        self.check_finished(job)
        self.assertIn("once more in this allocation", job.text())


class Cancelled(Case):
    """It stays so, and saves. A second job goes on with its run, on another number of ranks."""

    tasks_per_node = 2

    def test(self):
        for launcher in ("srun", "mpirun"):
            self.flags.write_text(SLOW)
            job = self.submit("--launcher", launcher)
            self.wait_for_windows(job, 7)
            job.cancel()
            state, _ = job.wait()
            self.assertEqual(state, "CANCELLED", job.text())
            job.wait_for_text("ended by Slurm")
            self.assertNotIn("requeue\n", job.text())
            done = self.windows(self.run_dir(job))
            self.assertIn(done, program.checkpoints(self.run_dir(job)), job.text())
        self.flags.write_text("")
        self.assertEqual(job.state(), "CANCELLED")
        next_job = self.submit("--run-dir", str(self.run_dir(job)), nodes=1)
        self.check_finished(next_job, run_dir=self.run_dir(job))
        self.assertNotIn("a fresh start", next_job.text())


class Twice(Case):
    """A second submission is a run of its own."""

    def test(self):
        jobs = [self.submit(nodes=1, tasks_per_node=2) for _ in range(2)]
        for job in jobs:
            self.check_finished(job)
        self.assertNotEqual(*(self.run_dir(job) for job in jobs))


class Superseded(Case):
    """A script whose job has been started again by Slurm does not requeue it."""

    nodes = 1

    def test(self):
        stale = self.work / "stale.sh"
        stale.write_text('#!/bin/bash\n#SBATCH --output=ptb_dist-%j.out\n'
                         'export SLURM_RESTART_COUNT=1\nmkdir -p "$PWD/runs/small-$SLURM_JOB_ID"\n'
                         'touch "runs/small-$SLURM_JOB_ID/.job-$SLURM_JOB_ID"\n'
                         f'exec bash {SCRIPT} "$@"\n')
        self.flags.write_text("--inject kill@1:20")
        job = self.submit(nodes=1, tasks_per_node=2, script=stale)
        self.assertEqual(job.wait()[0], "FAILED", job.text())
        self.assertIn("a newer attempt of this job is there", job.text())
        self.assertEqual(job.field("Restarts"), "0")


class NoScontrol(Case):
    """Slurm's commands are not what they should be: the run's own code is kept."""

    nodes = 1

    def test(self):
        tools = self.work / "tools"
        tools.mkdir()
        (tools / "scontrol").write_text("#!/bin/sh\nexit 1\n")
        (tools / "scontrol").chmod(0o755)
        script = self.work / "script"
        script.write_text(SCRIPT.read_text().replace("kPause=10", "kPause=0"))
        self.flags.write_text("--inject nan@0:20")
        job = self.submit(nodes=1, tasks_per_node=2, script=script,
                          PATH=f"{tools}:{os.environ['PATH']}")
        self.assertEqual(job.wait(), ("FAILED", 76), job.text())
        self.flags.write_text("--inject kill@1:20")
        job = self.submit(nodes=1, tasks_per_node=2, script=script,
                          PATH=f"{tools}:{os.environ['PATH']}")
        self.assertEqual(job.wait(), ("FAILED", KILLED), job.text())
        self.assertIn("Slurm does not answer; to go on: sbatch with --run-dir", job.text())


class NotShared(Case):
    """The run directory is on a disk of the node: a restart elsewhere does not begin anew."""

    def test(self):
        self.flags.write_text(SLOW)
        job = self.submit("--run-dir", "/dev/shm/run", nodes=1)
        job.wait_for_text("Checkpoint: ")
        first = job.field("BatchHost")
        job.signal_script("USR1")
        job.wait_for_text(": requeue\n")
        wait_for(lambda: the_cluster.slurm("scontrol", "update", f"JobId={job.number}",
                                           f"ExcNodeList={first}").returncode == 0,
                 lambda: f"job {job.number} is moved: {job.state()}")
        self.assertEqual(job.wait(), ("FAILED", 2), job.text())
        self.assertIn("is the run directory on a file system that all nodes share?", job.text())


class Network(Case):
    """The nodes have a second network, which leads nowhere; --network names the good one."""

    good_network = ("--network", "eth0")

    def setUp(self):
        super().setUp()
        for number, host in enumerate(self.hosts, 1):
            host.run(["sh", "-ec", f"""
                ip link add name eth1 type veth peer name nowhere
                ip addr add 10.78.0.{number}/24 dev eth1
                ip link set dev eth1 up && ip link set dev nowhere up"""], check=True)

    def test(self):
        self.check_finished(self.submit("--launcher", "mpirun", *self.good_network))


class NetworkThatLeadsNowhere(Network):
    """Not told which network is good, the job ends by itself and says what to do."""

    def test(self):
        self.flags.write_text("--timeout 10")
        job = self.submit("--launcher", "mpirun")
        began = time.monotonic()
        job.wait_for_text(": mpirun ended: exit status 70", seconds=3 * 20)
        tell("a network that leads nowhere", to_exit=time.monotonic() - began)
        self.assertIn("btl_tcp_if_include", job.text())


class WithoutPmix(Case):
    """srun that starts tasks which know nothing of each other."""

    def test(self):
        job = self.submit(SLURM_MPI_TYPE="none")
        self.assertEqual(job.wait(), ("FAILED", 2), job.text())
        told = re.findall("ptb_dist: error: .*use srun --mpi=pmix or mpirun", job.text())
        self.assertEqual(len(told), 1, job.text())
        self.assertFalse((self.run_dir(job) / "config.toml").exists())


class PlainMpirun(Case):
    """No batch system, but launch/hosts.example and keepalive.conf: a link that is cut ends the run
    on both sides, and it goes on when the link is mended."""

    def start(self, run_dir):
        agent = self.work / "agent"  # in the place of ssh
        agent.write_text("#!/bin/sh\nhost=$1; shift\nexec " + " ".join(
            self.hosts[0].command(["sh", "-c", '"$*"'])).replace(
                str(self.hosts[0].init), f"$(cat {self.work}/$host)", 1) + "\n")
        agent.chmod(0o755)
        for host in self.hosts:
            (self.work / host.name).write_text(str(host.init))
        example = (SCRIPT.parent / "hosts.example").read_text()
        comment = re.sub(r"(?m)^node\d+ slots=\d+\n", "", example)
        (self.work / "hosts").write_text(
            comment + "".join(f"{host.name} slots=1\n" for host in self.hosts))
        return subprocess.Popen(
            ["mpirun", "--mca", "plm_rsh_agent", agent,
             "--mca", "oob_tcp_if_include", slurm.NETWORK, "--hostfile", self.work / "hosts",
             "--tune", SCRIPT.parent / "keepalive.conf",
             "--map-by", "slot", self.program, *RUN, "--run-dir", run_dir, "--resume", "auto"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def test(self):
        # Of rank 0, on the side that mpirun sees: a far daemon that has something to tell waits on.
        self.flags.write_text("--inject slow@0:0")
        run_dir = self.work / "run"
        process = self.start(run_dir)
        wait_for(lambda: self.windows(run_dir) >= 8, "8 windows")
        began = time.monotonic()
        self.hosts[1].cut()
        text = process.communicate(timeout=60)[0]
        self.assertEqual(process.returncode, 205, text)
        tell("link cut, mpirun alone", to_exit=time.monotonic() - began)
        self.check_nothing_is_left(run_dir)
        self.hosts[1].mend()
        self.flags.write_text("")
        process = self.start(run_dir)
        text = process.communicate(timeout=60)[0]
        self.assertEqual(process.returncode, 0, text)
        self.check_result(run_dir)


class CutOff(Case):
    """A node is cut off; its ranks need no network, and go on beside the attempt that Slurm has
    started elsewhere, until they notice it."""

    def test(self):
        self.flags.write_text(" ".join([SLOW] * 3))  # it would last 70 s
        job = self.submit(nodes=1, tasks_per_node=2)
        self.wait_for_windows(job, 8)
        self.flags.write_text("")
        old = next(host for host in self.hosts if host.name == job.field("BatchHost"))
        old.cut()
        job.wait_for_text(rf"\[{job.number}\.1 .*: launch: ")
        began = time.monotonic()
        wait_for(lambda: not old.processes(options.program.name),
                 lambda: f"the old ranks have noticed:\n{job.text()}", 3 * 10)
        tell("cut off, the old attempt leaves", to_exit=time.monotonic() - began)
        self.assertRegex(job.text(), "superseded")
        old.mend()
        self.check_finished(job)


SHORT = [PreemptedUnderSrun, PreemptedUnderMpirun, NodeLost, NodeBack, Cancelled, Twice,
         Superseded, NoScontrol, NotShared, Network, PlainMpirun, WithoutPmix]
# Cases of what is not there yet; started by their names alone.
# - attempts of one job that know of each other;
# - ranks that notice that they cannot talk to each other.
NOT_YET = [CutOff, NetworkThatLeadsNowhere]

# --- of minutes ---


class TimeLimit(Case):
    """An hour becomes a minute while the job runs; Slurm's own signal comes too late."""

    def test(self):
        self.flags.write_text(" ".join([SLOW] * 3))
        job = self.submit(flags=["--time=60", "--signal=B:CONT@1"])
        self.wait_for_windows(job, 2)
        the_cluster.slurm("scontrol", "update", f"JobId={job.number}", "TimeLimit=1")
        job.wait_for_text("Stopped by the end of the job's time; windows done: ", seconds=90)
        self.flags.write_text("")
        job.wait_for_text(": requeue\n")
        self.check_finished(job)
        self.assertNotIn("USR1", job.text())


class SignalOfSlurm(Case):
    """The signal that the script asks for."""

    def test(self):
        self.flags.write_text(" ".join([SLOW] * 3))
        job = self.submit(flags=["--time=2"])
        job.wait_for_text("USR1: asking the run to save", seconds=150)
        self.flags.write_text("")
        self.check_finished(job, seconds=150)


class PriorityPreempts(Case):
    """A job of a partition with priority takes the nodes, after a grace of 8 s."""

    tasks_per_node = 2

    @classmethod
    def partition_lines(cls, nodes):
        name = cls.partition()
        return [f"PartitionName={name} Nodes={','.join(nodes)} PriorityTier=1 GraceTime=8",
                f"PartitionName={name}-first Nodes={','.join(nodes)} PriorityTier=9"]

    def test(self):
        for launcher in ("srun", "mpirun"):
            self.flags.write_text(SLOW)
            job = self.submit("--launcher", launcher)
            self.wait_for_windows(job, 8)
            self.flags.write_text("")
            taking = the_cluster.slurm(
                "sbatch", "--parsable", f"--partition={self.partition()}-first", "--nodes=2",
                "--exclusive", "--output=/dev/null", "--wrap=sleep 2", cwd=self.work)
            self.assertEqual(taking.returncode, 0, taking.stderr)
            self.check_finished(job, seconds=150)
            self.assertEqual(job.field("Restarts"), "1", job.text())


class NodeBackTwice(NodeBack):
    """Then it is in the way of two steps."""

    times = 2


class CrashLoop(Case):
    """It fails in the same place each time: three attempts, and no more."""

    def test(self):
        self.flags.write_text("--inject kill@1:3")
        job = self.submit()
        self.assertEqual(job.wait(90), ("FAILED", KILLED), job.text())
        self.assertEqual(job.field("Restarts"), "2")
        self.assertIn("giving up: 3 attempts without a newer checkpoint than step -1", job.text())


class LiveLocked(Case):
    """A rank that does not go on ends the job after --timeout."""

    def test(self):
        for launcher in ("srun", "mpirun"):
            self.flags.write_text("--inject hang@1:20 --timeout 6")
            job = self.submit("--launcher", launcher)
            job.wait_for_text(f": {launcher} ended: exit status 70, run failed")
            self.flags.write_text("")
            self.check_finished(job)


class SlowRank(Case):
    """A rank that is stopped most of the time."""

    def test(self):
        job = self.submit()
        self.wait_for_windows(job, 1)
        while job.state() == "RUNNING":
            for pid, _ in self.hosts[1].processes(options.program.name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(0.4)
                    os.kill(pid, signal.SIGCONT)
            time.sleep(0.2)
        self.check_finished(job)
        self.assertEqual(job.field("Restarts"), "0")


class LinkMended(Case):
    """A link that is away for 3 s is only slow."""

    def test(self):
        self.flags.write_text(SLOW)
        job = self.submit()
        for _ in range(3):
            windows = self.windows(self.run_dir(job))
            self.wait_for_windows(job, windows + 8)
            self.hosts[1].cut()
            time.sleep(3)
            self.hosts[1].mend()
        self.check_finished(job)
        self.assertEqual(job.field("Restarts"), "0")


class WithoutKeepAlive(Case):
    """mpirun does not hear that a link is cut: the ranks end by --timeout, the script ends mpirun.
    Alone in its cluster, where Slurm waits longer."""

    node_seconds = 120

    def test(self):
        script = self.work / "script"
        script.write_text(re.sub(r"(?m)^export OMPI_MCA_oob_tcp_keepalive.*\n", "",
                                 SCRIPT.read_text()))
        self.flags.write_text("--inject slow@0:0 --timeout 6")
        job = self.submit("--launcher", "mpirun", script=script)
        self.wait_for_windows(job, 8)
        self.flags.write_text("")
        began = time.monotonic()
        self.hosts[1].cut()
        job.wait_for_text("and mpirun did not: ending it")
        job.wait_for_text(": mpirun ended: exit status 70, run failed")
        tell("link cut, no keep-alive", to_exit=time.monotonic() - began)
        self.hosts[1].mend()
        self.check_finished(job, seconds=150)


class ControllerKilled(Case):
    """slurmctld is killed while a job runs, and is away when the job is to be requeued. Alone in
    its cluster, since others would miss it, too."""

    def test(self):
        self.flags.write_text(SLOW)
        job = self.submit("--launcher", "mpirun")  # srun would wait for slurmctld
        self.wait_for_windows(job, 8)
        self.flags.write_text(SLOW + " --inject kill@1:30")
        job.signal_script("USR1")
        self.wait_for_windows(job, 20)
        the_cluster.controller.kill()
        the_cluster.controller.wait()
        job.wait_for_text(rf"\[{job.number}\.1 .*: mpirun ended: exit status 137")
        self.flags.write_text("")
        time.sleep(8)
        the_cluster.start_controller()
        self.check_finished(job, seconds=120)


class AtRandom(Case):
    """Two disturbances of a job, of random kinds at random moments."""

    nodes = 3
    share = 0  # of the seeds, this part of four

    def test(self):
        for seed in range(self.share, options.seeds, 4):
            with self.subTest(seed=seed):
                self.one(seed, random.Random(seed))

    def one(self, seed, chance):
        launcher = chance.choice(["srun", "mpirun"])
        self.flags.write_text(SLOW + " --timeout 6")
        job = self.submit("--launcher", launcher)
        for number in range(2):
            kind = chance.choice([self.kill_rank, self.reboot, self.cut, self.ask])
            self.wait_for_windows(job, 8 * number + chance.randrange(1, 12))
            if number == 1:
                self.flags.write_text("--timeout 30")
            began = time.monotonic()
            names = kind(chance, job)
            pattern = rf"\[{job.number}\.{number} .*: {launcher} ended: exit status"
            job.wait_for_text(pattern)
            ended = time.monotonic()
            windows = self.windows(self.run_dir(job))
            for name in names:  # that were cut off
                the_cluster.hosts[name].mend()
            self.wait_for_windows(job, windows + 1)
            tell(f"at random, {kind.__name__}, {launcher}", to_exit=ended - began,
                 to_next_window=time.monotonic() - ended)
        self.check_finished(job, seconds=120)
        the_cluster.wait_for_nodes(host.name for host in self.hosts)

    def used(self, job):
        """The hosts that have ranks, that of the batch script first."""
        first = job.field("BatchHost")
        used = [host for host in self.hosts if host.processes(options.program.name)]
        return sorted(used, key=lambda host: host.name != first)

    def kill_rank(self, chance, job):
        pid = chance.choice([pid for host in self.used(job)
                             for pid, _ in host.processes(options.program.name)])
        os.kill(pid, signal.SIGKILL)
        return []

    def reboot(self, chance, job):
        host = self.used(job)[-1]
        host.crash()
        the_cluster.boot(host.name)
        self.hosts = [the_cluster.hosts[host.name] for host in self.hosts]
        return []

    def cut(self, chance, job):
        host = self.used(job)[-1]
        host.cut()
        return [host.name]

    def ask(self, chance, job):
        job.signal_script("USR1")
        return []

PARTS = [type(f"AtRandom{share}", (AtRandom,), {"share": share}) for share in range(4)]
LONG = [TimeLimit, SignalOfSlurm, PriorityPreempts, NodeBackTwice, CrashLoop, LiveLocked, SlowRank,
        LinkMended]
ALONE = [ControllerKilled, WithoutKeepAlive]  # started by their names


def partition_lines(cases):
    """Of slurm.conf, and the names of the nodes of each case."""
    names, lines, first = {}, [], 1
    for case in cases:
        names[case] = [f"node{i}" for i in range(first, first + case.nodes)]
        first += case.nodes
        lines += case.partition_lines(names[case])
    return names, lines, first - 1


def run_side_by_side(cases):
    """Whether all have passed. Prints the failures, and how long each took."""
    began = time.monotonic()

    def run(case):
        result = unittest.TestResult()
        start = time.monotonic()
        case("test").run(result)
        return case, result, start - began, time.monotonic() - began

    passed = True
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run, case) for case in cases]):
            case, result, start, end = future.result()
            print(f"{case.__name__}: {'ok' if result.wasSuccessful() else 'FAILED'} "
                  f"({end - start:.1f} s)", flush=True)
            for _, text in result.failures + result.errors:
                print(text, flush=True)
            passed = passed and result.wasSuccessful()
    return passed


def undisturbed(run_dir):
    ended = program.run([*RUN, "--run-dir", str(run_dir)], options.program)
    if ended.status != 0:
        raise RuntimeError(ended.out + ended.err)
    return run_dir


def main():
    global the_cluster, expected, node_names, options
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seeds", type=int, default=8, help="of AtRandom0 to AtRandom3 together")
    parser.add_argument("--figures", type=pathlib.Path, help="a JSON file for what was measured")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if why := rights.lacking("slurm"):
        print(f"PTB_DIST_REQUIRE has {why}" if rights.is_required("slurm") else f"skipped: {why}")
        return 1 if rights.is_required("slurm") else rights.SKIPPED
    slurm.isolate()
    cases = LONG if options.long else SHORT
    if options.names:
        known = SHORT + NOT_YET + LONG + PARTS + ALONE
        cases = [case for case in known if case.__name__ in options.names]
    node_names, partitions, nodes = partition_lines(cases)
    os.environ.update(program.environment(dict(OMPI_MCA_mpi_yield_when_idle="1")))
    with tempfile.TemporaryDirectory(prefix="ptb_dist_slurm_") as folder:
        the_cluster = slurm.Cluster(folder, nodes, max(case.node_seconds for case in cases),
                                    partitions)
        the_cluster.start()
        scratch = the_cluster.dir / "scratch"
        scratch.mkdir()
        os.environ["TMPDIR"] = str(scratch)  # of Open MPI, which leaves files when it is killed
        expected = undisturbed(the_cluster.dir / "undisturbed")
        passed = run_side_by_side(cases)
        if not passed:
            for log in sorted(the_cluster.dir.glob("slurm*.log")):
                print(f"--- {log.name}", *log.read_text().splitlines()[-30:], sep="\n")
    if options.figures:
        options.figures.write_text(json.dumps(figures))
    return 0 if passed and cases else 1


if __name__ == "__main__":
    sys.exit(main())
