"""The system calls of a save, and what can go wrong at each: what system_call_test.py injects.

strace lists the calls of an undisturbed save, so that none is missed. It looks only at the paths of
the save: it does not count the dynamic loader's calls, and standard error still works when the disk
fails.
"""

import dataclasses
import errno
import os
import re
import shlex

# Those of today's save and those that another might use; "?" where an architecture has no such.
TRACED = ("openat,getdents64,write,writev,pwrite64,ftruncate,fsync,fdatasync,close,?rename,"
          "renameat,renameat2,?link,linkat,?unlink,unlinkat")
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS")
DEAD_DISK = ("EIO", "EROFS")  # what a disk that is gone answers to everything
# An interrupted call may be interrupted again. (For ever is no fault: the save tries for ever.)
INTERRUPTIONS = 5
# Linux interrupts no other call of a save on a disk.
INTERRUPTIBLE = ("write", "fsync", "close")


@dataclasses.dataclass(frozen=True)
class Call:
    name: str
    number: int  # among the save's calls of that name, from 1
    subject: str  # the path that an error has to name; empty if the save goes on over any error

    def __str__(self):
        return f"{self.name} {self.number}"

    def fails_with(self, error):
        """Whether the error ends the save."""
        if error == "EINTR" and self.name in INTERRUPTIBLE:
            return False
        # A log may be a pipe, to which this is the answer.
        is_log = self.subject.endswith((".txt", ".jsonl"))
        if error == "EROFS" and self.name == "fsync" and is_log:
            return False
        return self.subject != ""


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    injected: tuple  # options of strace
    met: tuple  # the calls that meet it, as far as the save comes
    error: str = ""  # none: a kill

    @property
    def subject(self):
        """The path that the error names; empty if the save goes well."""
        return next((call.subject for call in self.met if call.fails_with(self.error)), "")


def reason(error):
    """What an error's line says of "EIO"."""
    return os.strerror(getattr(errno, error))


def under_strace(command, log, paths, options=()):
    """The command, its calls on the paths being written to the log. "$$" in a path stands for its
    process number, which is that of the process started (-D)."""
    strace = ["exec", "strace", "-D", "-f", "-q", "-y", "-s", "0", "-o", str(log), "-e",
              f"trace={TRACED}", *options]
    for path in paths:
        strace += ["-P", str(path)]
    words = [shlex.quote(word).replace("$$", "'$$'") for word in [*strace, *map(str, command)]]
    return ["sh", "-c", " ".join(words)]


def calls_in(log):
    """(name, number among its kind, text) of each call of a process with one thread."""
    counts = {}
    for line in log.read_text().splitlines():
        found = re.match(r"\d+ +((\w+)\(.*)", line)
        if found:
            text, name = found.groups()
            counts[name] = counts.get(name, 0) + 1
            yield name, counts[name], text


def calls_of_save(log, run_dir):
    """The Calls of an undisturbed save into the run directory, from first to last."""
    folder = f"{run_dir}/checkpoints"
    in_run_dir = re.compile(re.escape(str(run_dir)) + r'[^"<>]*')
    calls, subject, has_prepared = [], folder, False
    for name, number, text in calls_in(log):
        path = in_run_dir.findall(text)[-1]
        is_temporary = ".tmp." in path
        if path == str(run_dir):  # synced for the name of the folder
            subject = folder
        elif path != folder:  # which is also synced for the name of a file
            subject = re.sub(r"/\.([^/]+)\.tmp\.[^/]*$", r"/\1", path)
        has_prepared = has_prepared or is_temporary and name == "openat"
        # What prepare() can neither list nor remove stays for the next time.
        prepares = path == folder and not has_prepared
        # Of an earlier life of the process number. Where there is one, the open finds it.
        removes_temporary = name.startswith("unlink") and is_temporary
        # Of what has been read or synced nothing can be lost.
        closes_other = name == "close" and not is_temporary
        is_ignored = prepares or removes_temporary or closes_other
        calls.append(Call(name, number, "" if is_ignored else subject))
        if closes_other:
            subject = folder
    return calls


def inject(name, what, when):
    return ("-e", f"inject={name}:{what}:when={when}")


def fail(name, error, when):
    return inject(name, f"error={error}", when)


def kill(name, when):
    return inject(name, "signal=KILL", when)


def all_faults(calls):
    """Every fault at every call."""
    for index, call in enumerate(calls):
        later = [other for other in calls[index:] if other.name == call.name]
        yield Fault(f"SIGKILL at {call}", kill(call.name, call.number), (call,))
        for error in (*ERRORS, "EINTR"):
            yield Fault(f"{error} at {call}", fail(call.name, error, call.number), (call,), error)
        for error in ERRORS:
            yield Fault(f"{error} from {call} on", fail(call.name, error, f"{call.number}+"),
                        tuple(later), error)
        yield interruptions(call, later)
        for error in DEAD_DISK:
            yield dead_disk(calls, index, error)
        if call.name == "write":  # strace leaves the call out, so a number would be a lie
            yield Fault(f"nothing taken by {call}", inject("write", "retval=0", call.number),
                        (call,), "EIO")


def interruptions(call, later):
    last = call.number + INTERRUPTIONS - 1
    return Fault(f"EINTR from {call} to {last}",
                 fail(call.name, "EINTR", f"{call.number}..{last}"),
                 tuple(other for other in later if other.number <= last), "EINTR")


def dead_disk(calls, index, error):
    """No call of any kind succeeds any more."""
    numbers = {}  # of the first that fails, by name
    for call in calls:
        numbers[call.name] = 1
    for call in calls[:index]:
        numbers[call.name] = call.number + 1
    options = [fail(name, error, f"{number}+") for name, number in numbers.items()]
    return Fault(f"{error} of all calls from {calls[index]} on", sum(options, ()),
                 tuple(calls[index:]), error)
