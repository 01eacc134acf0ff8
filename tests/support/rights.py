#!/usr/bin/env python3
"""What tests need of a machine beyond a user's everyday rights, and whether it is there.

    rights.py               a line for each right: there, or why not
    rights.py --found       the names of those that are there, with commas; the others go to stderr
    rights.py NAME...       succeeds if all of them are there, else 77 and a line that says why not

A container seldom gives all of them, even to root. Each right is tried by doing what its tests do,
in the form that needs least. A test that lacks a right says so and is skipped; if PTB_DIST_REQUIRE
names the right, the test fails (status 1 instead of 77).
"""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SKIPPED = 77  # SKIP_RETURN_CODE of ctest
NOBODY = 65534
FRESH_USER = 61184  # a user without a process: a limit on a user's threads has a known effect

# Not by unshare's own --propagation, which fails where / is no mount point, as after chroot. There
# the folder alone is made private, and its one mount is taken away at the end in any case.
WITH_MOUNTS = """
folder=$1 script=$2
shift 2
mount --make-rprivate / 2>/dev/null || :
mount --bind "$folder" "$folder" && mount --make-rprivate "$folder" || exit
cd "$folder" || exit
sh -ec "$script" sh "$@"
status=$?
# Lazily: a process that has been told to end may not have done so yet.
cd / && umount --recursive --lazy "$folder"
exit $status
"""


def with_mounts(folder, script, *arguments, processes=False):
    """A command: the shell script, in the folder, may mount what it likes there, and nobody else
    sees it. With `processes` it has a namespace of them, too, and none outlives it."""
    alone = ["--pid", "--fork", "--kill-child"] if processes else []
    return ["unshare", "--mount", "--propagation", "unchanged", *alone, "sh", "-c", WITH_MOUNTS,
            "sh", str(folder), script, *map(str, arguments)]


def complaint(command, **where):
    """What a command says that fails, or that tells of an error; empty if all is well."""
    try:
        ended = subprocess.run(command, text=True, capture_output=True, timeout=50,
                               stdin=subprocess.DEVNULL, **where)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    told = ended.stderr.strip().splitlines()
    if ended.returncode != 0 and not told:
        return f"{command[0]}: exit status {ended.returncode}"
    return told[0] if told else ""


def mounting(script, **how):
    with tempfile.TemporaryDirectory(prefix="ptb_dist_rights_") as folder:
        return complaint(with_mounts(folder, script, **how))


def small_disk():
    return mounting("mkdir a && mount -t tmpfs -o size=64k tmpfs a && : >a/file")


def bare_root():
    return mounting("""
        mkdir proc dev bin && mount -t proc proc proc && mount -t tmpfs -o mode=755 tmpfs dev
        mknod -m 666 dev/null c 1 3 && : >dev/null
        chroot --userspec=65534:65534 --groups= / true""", processes=True)


def other_user():
    # A file without permission is closed to everybody but root.
    if os.geteuid() != 0:
        return ""
    return complaint(["true"], user=NOBODY, group=NOBODY, extra_groups=[])


def fresh_user():
    if os.geteuid() != 0:
        return "this is not root"
    return complaint(["true"], user=FRESH_USER, group=FRESH_USER, extra_groups=[])


def tracing():
    return complaint(["strace", "-D", "-o", "/dev/null", "true"])  # -D ends with 0 in any case


def slurm():
    """What tests/slurm/cluster.py does."""
    return complaint(
        ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child",
         "--mount-proc", "sh", "-ec", """
            PATH=$PATH:/usr/sbin:/sbin
            hostname head && mount -t tmpfs tmpfs /dev/shm
            ip link add name switch type bridge && ip link add name a type veth peer name b
            for program in munged mungekey slurmctld slurmd sbatch nsenter; do
              command -v $program >/dev/null || { echo "$program: not found" >&2; exit 1; }
            done"""])


RIGHTS = {
    "small_disk": ("to mount a disk of a few kB", small_disk),
    "bare_root": ("to mount, make devices, and chroot as a user who may do nothing", bare_root),
    "other_user": ("of root, to become another user", other_user),
    "fresh_user": ("of root, to become a user who has no other process", fresh_user),
    "slurm": ("Slurm, and of root, to make hosts with networks of their own", slurm),
    "strace": ("to trace a program that one starts", tracing),
}


@functools.cache
def lacking(name):
    """Why the right is not there; empty if it is."""
    meaning, probe = RIGHTS[name]
    why = probe()
    return f"{name} ({meaning}): {why}" if why else ""


def is_required(name):
    return name in os.environ.get("PTB_DIST_REQUIRE", "").split(",")


def require(name):
    """In a test or its setUpClass(): skips it where the right is not there, and prints why."""
    if why := lacking(name):
        if is_required(name):
            raise AssertionError(f"PTB_DIST_REQUIRE has {why}")
        print(f"skipped: {why}", flush=True)
        raise unittest.SkipTest(why)


def main(arguments):
    if not arguments:
        for name in RIGHTS:
            print(lacking(name) or f"{name}: there")
        return 0
    if arguments == ["--found"]:
        for name in filter(lacking, RIGHTS):
            print(f"not here: {lacking(name)}", file=sys.stderr)
        print(",".join(name for name in RIGHTS if not lacking(name)))
        return 0
    for name in filter(lacking, arguments):
        print(f"PTB_DIST_REQUIRE has {lacking(name)}" if is_required(name) else lacking(name))
        return 1 if is_required(name) else SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
