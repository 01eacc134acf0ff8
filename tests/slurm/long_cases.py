"""The cases of slurm_test.py that take minutes."""

import contextlib
import os
import random
import re
import signal
import time

from case import KILLED, SCRIPT, SLOW, Case, tell, world
from short_cases import NodeBack


class TimeLimit(Case):
    """An hour becomes a minute while the job runs; Slurm's own signal comes too late."""

    def test(self):
        self.flags.write_text(" ".join([SLOW] * 3))
        job = self.submit(flags=["--time=60", "--signal=B:CONT@1"])
        self.wait_for_windows(job, 2)
        world.cluster.slurm("scontrol", "update", f"JobId={job.number}", "TimeLimit=1")
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
            taking = world.cluster.slurm(
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
            for pid, _ in self.hosts[1].processes(world.program.name):
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
        world.cluster.controller.kill()
        world.cluster.controller.wait()
        job.wait_for_text(rf"\[{job.number}\.1 .*: mpirun ended: exit status 137")
        self.flags.write_text("")
        time.sleep(8)
        world.cluster.start_controller()
        self.check_finished(job, seconds=120)


class AtRandom(Case):
    """Two disturbances of a job, of random kinds at random moments."""

    nodes = 3
    share = 0  # of the seeds, this part of four

    def test(self):
        for seed in range(self.share, world.seeds, 4):
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
                world.cluster.hosts[name].mend()
            self.wait_for_windows(job, windows + 1)
            tell(f"at random, {kind.__name__}, {launcher}", to_exit=ended - began,
                 to_next_window=time.monotonic() - ended)
        self.check_finished(job, seconds=120)
        world.cluster.wait_for_nodes(host.name for host in self.hosts)

    def used(self, job):
        """The hosts that have ranks, that of the batch script first."""
        first = job.field("BatchHost")
        used = [host for host in self.hosts if host.processes(world.program.name)]
        return sorted(used, key=lambda host: host.name != first)

    def kill_rank(self, chance, job):
        pid = chance.choice([pid for host in self.used(job)
                             for pid, _ in host.processes(world.program.name)])
        os.kill(pid, signal.SIGKILL)
        return []

    def reboot(self, chance, job):
        host = self.used(job)[-1]
        host.crash()
        world.cluster.boot(host.name)
        self.hosts = [world.cluster.hosts[host.name] for host in self.hosts]
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
