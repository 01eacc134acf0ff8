"""Runs what may hang: commands with a limit, of which nothing is left behind.

When a command has ended, or its time is up, all that it has started is killed, whatever group or
session that is in: orphans fall to this process (PR_SET_CHILD_SUBREAPER). Output goes to files, so
that nobody waits for a pipe that some child keeps open.
"""

import contextlib
import ctypes
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

PR_SET_CHILD_SUBREAPER = 36
GRACE = 2  # seconds from the request to end to the kill
KILL_SECONDS = 5  # a process that waits for a driver may not die
KEPT_BYTES = 1_000_000  # of an output, its end


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
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(without=()):
    """Processes that this one, or what it started, has started; but for `without` and theirs."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, rest = [], [os.getpid()]
    while rest:
        mine = [pid for pid in children.get(rest.pop(), []) if pid not in without]
        found += mine
        rest += mine
    return found


def end_all(spare=()):
    """Kills all that this process has started, but for `spare` and what those have."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := descendants(spare)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def wait(process, limit, grace):
    """The exit status, or None when the time is up: then it was asked to end."""
    try:
        return process.wait(max(limit, 0))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(grace, limit))
        return None


def text_of(file):
    """The end of it."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - KEPT_BYTES))
    return file.read().decode(errors="replace")


def run_to_end(command, limit, environment, spare=(), grace=GRACE, cwd=None):
    """Ended, or Missing where it cannot be started. Processes `spare` live on."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        try:
            process = subprocess.Popen([str(word) for word in command], env=environment, cwd=cwd,
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       start_new_session=True)
        except OSError as error:
            raise Missing(f"{command[0]}: {error.strerror}") from None
        try:
            status = wait(process, limit, grace)
            seconds = time.monotonic() - start
        finally:
            if process.returncode is None:
                process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(KILL_SECONDS)
            end_all(spare)
        return Ended(status, text_of(out), text_of(err), seconds)


def last_line(text):
    return (text.strip().splitlines() or ["no output"])[-1]


def run(command, limit, environment, **how):
    """Standard output; Missing with the last line of an error, or when the time is up."""
    ended = run_to_end(command, limit, environment, **how)
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
