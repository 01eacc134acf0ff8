"""The cases of slurm_test.py that take seconds."""

import os
import re
import subprocess
import time

import cluster
from case import KILLED, RUN, SCRIPT, SLOW, Case, program, tell, world
from cluster import wait_for


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
            world.cluster.boot(name)
            self.hosts[1] = world.cluster.hosts[name]
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
        self.flags.write_text("--inject slow@0:0")  # its only rank
        job = self.submit("--run-dir", "/dev/shm/run", nodes=1)
        job.wait_for_text("Checkpoint: ")
        first = job.field("BatchHost")
        job.signal_script("USR1")
        job.wait_for_text(": requeue\n")
        wait_for(lambda: world.cluster.slurm("scontrol", "update", f"JobId={job.number}",
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
             "--mca", "oob_tcp_if_include", cluster.NETWORK, "--hostfile", self.work / "hosts",
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
        wait_for(lambda: not old.processes(world.program.name),
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
