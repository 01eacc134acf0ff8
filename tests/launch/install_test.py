#!/usr/bin/env python3
"""Does an installed program run by itself, with the configurations that were installed with it?

    python3 install_test.py --cmake cmake --build build [--bin bin] [--data share]
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile


def run(*command, cwd):
    ended = subprocess.run([str(word) for word in command], cwd=cwd, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if ended.returncode != 0:
        sys.exit(f"exit status {ended.returncode} of {command}\n{ended.stdout}")
    return ended.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cmake", default="cmake")
    parser.add_argument("--build", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--bin", default="bin", help="CMAKE_INSTALL_BINDIR of that build")
    parser.add_argument("--data", default="share", help="its CMAKE_INSTALL_DATADIR")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ptb_dist_install_") as scratch:
        scratch = pathlib.Path(scratch)
        run(args.cmake, "--install", args.build, "--prefix", scratch / "prefix", cwd=scratch)
        # A seed that the sources do not have: it tells whose file is read.
        medium = scratch / "prefix" / args.data / "ptb_dist/configs/medium.toml"
        medium.write_text(medium.read_text() + "seed = 20140908\n")
        program = scratch / "prefix" / args.bin / "ptb_dist"
        printed = run(program, "config", "--config", "medium", cwd=scratch)
    lines = {line.partition("#")[0].strip() for line in printed.splitlines()}
    missing = {"hidden_size = 650", "keep_prob = 0.5", "seed = 20140908"} - lines
    if missing:
        sys.exit(f"not printed: {missing}\n{printed}")


if __name__ == "__main__":
    main()
