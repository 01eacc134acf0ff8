"""A real Slurm cluster on one machine, over hosts that can be killed and cut off.

A host is a set of namespaces: a network with one address, processes, a host name, a /dev/shm. The
caller's own process is the head (isolate() gives it a network and processes of its own): munged and
slurmctld run beside it, and it is where jobs are submitted. Whatever ends the caller ends all of
it.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

HEAD = "head"
NET = "10.77.0"
NETWORK = f"{NET}.0/24"
CPUS = 4  # of each node as Slurm sees it, whatever the machine has
PATIENCE = 60  # seconds for what takes one or two

SLURM_CONF = """\
ClusterName=ptbtest
SlurmctldHost={head}({net}.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# Also how long a requeued job has to wait, less a second. Less than 5 is taken for 120.
AuthInfo=socket={dir}/munge.sock,cred_expire=5
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool.%n
TmpFS={dir}/tmp.%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.%n.pid
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
MpiDefault=none
ReturnToService=2
JobRequeue=1
MinJobAge=3600
SlurmdTimeout={node_seconds}
# With the defaults (10, 2) it takes 25 s to see that a node is gone.
MessageTimeout=5
TCPTimeout=1
SlurmctldTimeout=30
KillWait=5
InactiveLimit=0
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=DEFAULT CPUs={cpus} RealMemory=4000 State=UNKNOWN
{nodes}
{partitions}
"""


def isolate():
    """Starts this program again in namespaces of its own, where it is root of all processes."""
    if os.environ.get("PTB_DIST_ISOLATED") == "1":
        subprocess.run(["hostname", HEAD], check=True)
        for command in (["link", "set", "dev", "lo", "up"],
                        ["link", "add", "name", "switch", "type", "bridge"],
                        ["addr", "add", f"{NET}.1/24", "dev", "switch"],
                        ["link", "set", "dev", "switch", "up"]):
            subprocess.run(["ip", *command], check=True)
        return
    os.environ["PTB_DIST_ISOLATED"] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork",
                          "--kill-child", "--mount-proc", sys.executable, *sys.argv])


def wait_for(condition, what, seconds=PATIENCE):
    """What the condition answers when it is true; AssertionError with `what` if it never is."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.05)
    return answer


class Host:
    """One that is running; its first process is the root of all others of it."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.port = f"port-{name}"
        script = ("mount -t tmpfs tmpfs /dev/shm && hostname $0 && echo ready && "
                  "while :; do sleep 1000; done")
        self.unshare = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child",
             "--mount-proc", "sh", "-c", script, name], stdout=subprocess.PIPE, text=True)
        if self.unshare.stdout.readline() != "ready\n":
            raise RuntimeError(f"{name}: no host")
        children = pathlib.Path(f"/proc/{self.unshare.pid}/task/{self.unshare.pid}/children")
        self.init = int(children.read_text())
        subprocess.run(["ip", "link", "add", "name", self.port, "type", "veth",
                        "peer", "name", "eth0", "netns", str(self.init)], check=True)
        subprocess.run(["ip", "link", "set", "dev", self.port, "master", "switch", "up"],
                       check=True)
        self.run(["sh", "-ec", f"ip link set dev lo up; ip addr add {address}/24 dev eth0; "
                               "ip link set dev eth0 up"], check=True)

    def command(self, command):
        return ["nsenter", "--target", str(self.init), "--mount", "--pid", "--net", "--uts",
                "--ipc", *map(str, command)]

    def run(self, command, **how):
        return subprocess.run(self.command(command), **how)

    def start(self, command, **how):
        return subprocess.Popen(self.command(command), **how)

    def cut(self):
        """Its link is down: it goes on, and nobody hears of it."""
        subprocess.run(["ip", "link", "set", "dev", self.port, "down"], check=True)

    def mend(self):
        subprocess.run(["ip", "link", "set", "dev", self.port, "up"], check=True)

    def crash(self):
        """All its processes are gone at once, and its network."""
        os.kill(self.init, signal.SIGKILL)
        self.unshare.wait()  # which has waited for it
        # The kernel removes it, too, but in its own time.
        subprocess.run(["ip", "link", "del", "dev", self.port], stderr=subprocess.DEVNULL)

    def processes(self, name):
        """[(number as the head sees it, arguments)] of programs with this name, dead ones aside."""
        space = os.readlink(f"/proc/{self.init}/ns/pid")
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns/pid") != space:
                    continue
                words = (folder / "cmdline").read_bytes().decode().split("\0")
                if words[0] and pathlib.Path(words[0]).name == name:
                    found.append((int(folder.name), words))
        return found


class Job:
    def __init__(self, cluster, number, out):
        self.cluster, self.number, self.out = cluster, number, out

    def field(self, name):
        ended = self.cluster.slurm("scontrol", "show", "job", "-o", self.number)
        found = re.search(rf" {name}=(\S*)", " " + ended.stdout)
        return found[1] if found else ""

    def state(self):
        return self.field("JobState")

    def text(self):
        return self.out.read_text() if self.out.exists() else ""

    def wait_for_text(self, pattern, count=1, seconds=PATIENCE):
        wait_for(lambda: len(re.findall(pattern, self.text())) >= count,
                 lambda: f"{pattern!r} in what job {self.number} says:\n{self.text()}", seconds)

    def wait(self, seconds=PATIENCE):
        """Until it is over: its state and exit code."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
        state = wait_for(lambda: (now := self.state()) in over and now,
                         lambda: f"job {self.number} is over; {self.state()}:\n{self.text()}",
                         seconds)
        return state, int(self.field("ExitCode").split(":")[0])

    def signal_script(self, name):
        self.cluster.slurm("scancel", "-b", "-s", name, self.number)

    def cancel(self):
        self.cluster.slurm("scancel", self.number)


class Cluster:
    def __init__(self, folder, nodes, node_seconds, partitions):
        self.dir = pathlib.Path(folder)
        self.conf = self.dir / "slurm.conf"
        self.nodes = nodes
        self.hosts = {}
        (self.dir / "state").mkdir(parents=True)
        self.dir.chmod(0o755)
        self.address = address = {name: f"{NET}.{10 + i}" for i, name in enumerate(nodes, 1)}
        self.conf.write_text(SLURM_CONF.format(
            head=HEAD, net=NET, dir=self.dir, cpus=CPUS, node_seconds=node_seconds,
            partitions="\n".join(partitions),
            nodes="\n".join(f"NodeName={name} NodeAddr={address[name]}" for name in self.nodes)))
        # The default looks for what a host without cgroup2 lacks.
        (self.dir / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        os.environ["SLURM_CONF"] = str(self.conf)
        hosts = self.dir / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{NET}.1 {HEAD}\n"
                         + "".join(f"{address[name]} {name}\n" for name in self.nodes))
        subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)

    def start(self):
        key = self.dir / "munge.key"
        subprocess.run(self.command_of("mungekey", "--create", f"--keyfile={key}"), check=True)
        self.daemon("munged", self.command_of(
            "munged", "--foreground", f"--key-file={key}", f"--socket={self.dir}/munge.sock",
            f"--pid-file={self.dir}/munged.pid", f"--log-file={self.dir}/munged.log",
            f"--seed-file={self.dir}/munged.seed"))
        for name in self.nodes:
            self.hosts[name] = Host(name, self.address[name])
        wait_for((self.dir / "munge.sock").exists, "munged")
        self.start_controller()
        for name in self.nodes:
            self.start_daemon(name)
        self.wait_for_nodes(self.nodes)

    def command_of(self, name, *arguments):
        return [shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin"), *arguments]

    def daemon(self, name, command):
        with open(self.dir / f"{name}.out", "a") as out:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def start_controller(self):
        self.controller = self.daemon(
            "slurmctld", self.command_of("slurmctld", "-D", "-f", str(self.conf)))

    def start_daemon(self, name):
        for kind in ("spool", "tmp"):
            (self.dir / f"{kind}.{name}").mkdir(exist_ok=True)
        self.daemon(f"slurmd.{name}", self.hosts[name].command(
            self.command_of("slurmd", "-D", "-N", name, "-f", str(self.conf))))

    def boot(self, name):
        """A host that has crashed comes back, with its daemon and what its disk held."""
        self.hosts[name] = Host(name, self.address[name])
        self.start_daemon(name)

    def slurm(self, *command, **how):
        return subprocess.run(self.command_of(command[0], *map(str, command[1:])), text=True,
                              capture_output=True, timeout=PATIENCE, **how)

    def up(self):
        answer = self.slurm("sinfo", "-h", "-N", "-o", "%N %t").stdout
        return {name for name, state in map(str.split, answer.splitlines())
                if state in ("idle", "mix", "alloc")}

    def wait_for_nodes(self, names, seconds=PATIENCE):
        wait_for(lambda: self.up() >= set(names), lambda: f"{names} are up: {self.up()}", seconds)

    def submit(self, flags, script, arguments, cwd, **changes):
        ended = self.slurm("sbatch", "--parsable", *flags, script, *arguments, cwd=cwd,
                           env={**os.environ, **changes})
        if ended.returncode != 0:
            raise AssertionError(f"sbatch: {ended.stderr}")
        number = ended.stdout.strip()
        return Job(self, number, pathlib.Path(cwd) / f"ptb_dist-{number}.out")
