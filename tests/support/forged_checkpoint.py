#!/usr/bin/python3
"""Changes the content of a checkpoint and corrects its digest, as a defect of the program or an
attacker might.

    /usr/bin/python3 forged_checkpoint.py FILE nothing|forgotten_state|forgotten_sums

Needs Debian's python3-h5py and python3-xxhash, which belong to that interpreter.
"""

import pathlib
import re
import sys

import h5py
import xxhash

USER_BLOCK = 512


def forget_state(file):
    for layer in file["state/lstm"].values():
        for name in ("c", "h"):
            layer[name][...] = 0


def forget_sums(file):
    file["progress"].attrs.modify("cross_entropy", 0.0)


CHANGES = {"nothing": lambda file: None, "forgotten_state": forget_state,
           "forgotten_sums": forget_sums}


def sealed(content):
    """The bytes of a file with the right size and digest in its user block."""
    text = content[:USER_BLOCK].rstrip(b"\0").decode()
    text = re.sub(r"(?m)^bytes = .*$", f"bytes = {len(content)}", text)
    text = re.sub(r"(?m)^xxh3_128 = .*$", "xxh3_128 = " + "0" * 32, text)
    block = text.encode().ljust(USER_BLOCK, b"\0")
    digest = xxhash.xxh3_128_hexdigest(block + content[USER_BLOCK:])
    return block.replace(b"0" * 32, digest.encode(), 1) + content[USER_BLOCK:]


def main():
    path, change = pathlib.Path(sys.argv[1]), CHANGES[sys.argv[2]]
    with h5py.File(path, "r+") as file:
        change(file)
    path.write_bytes(sealed(path.read_bytes()))


if __name__ == "__main__":
    main()
