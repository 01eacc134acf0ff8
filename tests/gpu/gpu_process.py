"""Runs commands that may hang, with a time limit, and leaves no process behind.

When a command has ended, or its time is up, all processes that it has started are killed, in any
group or session: orphans become children of this process (PR_SET_CHILD_SUBREAPER). Output goes to
files, so that nothing waits for a pipe that a child keeps open. Of other processes only
/proc/PID/stat is read: reading the command line or the variables of a process that hangs in the
kernel would hang, too.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PR_SET_CHILD_SUBREAPER = 36
GRACE = 2  # seconds from the request to end to the kill
KILL_SECONDS = 5  # a process that waits for a driver may not die
KEPT_BYTES = 1_000_000  # of an output, its end

kept = set()  # processes that live on from command to command, with what they start


class Missing(Exception):
    """Something could not be measured; the reason. `out` is what was printed until then."""

    def __init__(self, why, out="", is_hang=False):
        super().__init__(why)
        self.out, self.is_hang = out, is_hang


@dataclasses.dataclass
class Ended:
    status: int | None  # None: its time was up
    out: str
    err: str
    seconds: float


def adopt_orphans():
    """For this process, not for those that it forks."""
    with contextlib.suppress(ImportError, OSError):  # a bare Python, which then misses some of them
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants():
    """Processes that this one, or what it started, has started; but for `kept` and theirs."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, rest = [], [os.getpid()]
    while rest:
        mine = [pid for pid in children.get(rest.pop(), []) if pid not in kept]
        found += mine
        rest += mine
    return found


def end_all():
    """Kills all that this process has started, but for `kept` and what those have. What the kernel
    holds does not die; that is waited for only once."""
    deadline = time.monotonic() + KILL_SECONDS
    while left := descendants():
        if time.monotonic() > deadline:
            kept.update(left)
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def guard(seconds):
    """Goes on in a child, while this process waits for it and ends with its exit status. When
    `seconds` are over, the child and all that was started are killed, and the status is 1: so it
    ends in time even if the child is stuck, in a file system or a pipe that nobody reads."""
    adopt_orphans()
    child = os.fork()
    if child == 0:
        adopt_orphans()
        return
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda *_: os.kill(child, signal.SIGTERM))
    deadline = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    end_all()  # also what a child that was killed has left
    if ended[0] == 0:
        print("error: stopped, since its time was up and it was stuck", file=sys.stderr, flush=True)
        os._exit(1)
    status = os.waitstatus_to_exitcode(ended[1])
    os._exit(status if status >= 0 else 128 - status)


def wait(process, limit, ask, grace):
    """The exit status, or None when the time is up: then it was asked to end."""
    try:
        return process.wait(max(limit, 0))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, ask)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(grace, limit))
        return None


def text_of(file):
    """The end of it."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - KEPT_BYTES))
    return file.read().decode(errors="replace")


def run_to_end(command, limit, environment, cwd=None, ask=signal.SIGTERM, grace=GRACE,
               is_merged=False):
    """Ended, or Missing where it cannot be started. When its time is up, its group gets the signal
    `ask`. Merged: standard error is in its output."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        try:
            process = subprocess.Popen([str(word) for word in command], env=environment, cwd=cwd,
                                       stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=out if is_merged else err, start_new_session=True)
        except OSError as error:
            raise Missing(f"{command[0]}: {error.strerror}") from None
        try:
            status = wait(process, limit, ask, grace)
            seconds = time.monotonic() - start
        finally:
            if process.returncode is None:
                process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(KILL_SECONDS)
            end_all()
        return Ended(status, text_of(out), text_of(err), seconds)


def last_line(text):
    return (text.strip().splitlines() or ["no output"])[-1]


def run(command, limit, environment):
    """Standard output; Missing with the last line of an error, or when the time is up."""
    ended = run_to_end(command, limit, environment)
    if ended.status is None:
        raise Missing(f"stopped after {limit:.3g} s", ended.out, is_hang=True)
    if ended.status != 0:
        raise Missing(f"exit status {ended.status}: {last_line(ended.err or ended.out)}", ended.out)
    return ended.out


def memory_folder():
    """For what is written while the clock runs: of a file system in memory, if there is one."""
    memory = pathlib.Path("/dev/shm")
    with contextlib.suppress(OSError):
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 32_000_000:
            return memory
    return pathlib.Path(tempfile.gettempdir())
