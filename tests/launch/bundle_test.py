#!/usr/bin/env python3
"""launch/bundle.sh: does what it packs train where there is nothing else?

    python3 bundle_test.py --build build [unittest's arguments]

Packs the program of that build once, and runs it in another folder of this machine, and in a bare
root: a folder that has only the unpacked bundle, a C library, /bin/sh, /proc and a /dev of its own,
as a user who may do nothing. Only root can make one; for others those tests are skipped.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from launch_test import MISSING, PROJECT, USAGE, environment

MAX_BYTES = 50_000_000
TRAINING = ["--config", "test", "--data", "synthetic", "--synthetic-tokens", "5000",
            "--synthetic-vocab", "300", "--vocab-size", "300", "--threads", "1"]
RANKS = ["-np", "2", "--oversubscribe", "--bind-to", "none"]
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

NODES_OWN = re.compile(r"lib(c|m|pthread|resolv|cuda|ucp|fabric|ibverbs|psm2)\.so|ld-linux")
C_LIBRARY = re.compile(r"(/\S*/(?:ld-linux\S*|lib(?:c|m|dl|rt|pthread|util|resolv))\.so\.\d)\b")
CUDA_LIBRARY = re.compile(r"(lib(?:cudart|cublas|cublasLt|nccl)\.so\.\d+) => (/\S+)")

NAMESPACES = ["--mount", "--pid", "--fork", "--kill-child"]
# Into the bare root $1, which gets the CUDA libraries in $2 as /cuda, with the command behind them;
# in namespaces of its own. They are mounted because they have 600 MB.
ENTER = """
mount -t proc proc "$1/proc"
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
for library in $(ls "$2"); do
  mount --bind "$2/$library" "$1/cuda/$library"
done
for device in null:3 zero:5 random:8 urandom:9; do
  mknod -m 666 "$1/dev/${device%:*}" c 1 "${device#*:}"
done
mkdir -m 1777 "$1/dev/shm"
root=$1
chroot=$(command -v chroot)
shift 2
exec env -i PATH=/bin HOME=/tmp PTB_DIST_CUDA_LIBRARIES=/cuda \\
  "$chroot" --userspec=65534:65534 --groups= "$root" \\
  /bin/sh -c 'cd /tmp && exec "$@"' sh "$@"
"""
# In the place of ssh: the other node is this one, and the caller's variables do not go there.
AGENT = """#!/bin/sh
eval "$(export -p | while IFS='= ' read -r _ name _; do echo "unset $name"; done)"
shift
PATH=/bin HOME=/tmp exec /bin/sh -c "$*"
"""

build = None  # the build folder
scratch = None  # what these tests leave, until their end
cuda = None  # links to the CUDA libraries of this machine that the build was made with, if any
tarball = bundle = None  # what bundle.sh made of the build, and where it is unpacked
expected = None  # the perplexities of the build's own program


def run(*command, **changes):
    """(status, stdout, stderr)"""
    ended = subprocess.run([str(word) for word in command], text=True, timeout=300, cwd=scratch,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=environment(
                               {**AS_ROOT, "PTB_DIST_CUDA_LIBRARIES": str(cuda), **changes}))
    return ended.returncode, ended.stdout, ended.stderr


def succeed(*command, **changes):
    """Its standard output."""
    status, out, err = run(*command, **changes)
    if status != 0:
        raise AssertionError(f"exit status {status} of {command}\n{out}\n{err}")
    return out


def perplexities(text):
    return re.findall(r"^(?:Epoch: 1 )?(?:Train|Valid|Test) Perplexity: [\d.]+", text, re.M)


def pack(folder, *arguments):
    """(the tarball, what it unpacks to), both in `folder`."""
    packed = folder / "bundle.tar.gz"
    succeed(PROJECT / "launch/bundle.sh", *arguments, "--output", packed)
    succeed("tar", "-C", folder, "-xzf", packed)
    unpacked, = folder.glob("ptb_dist-*/")
    return packed, unpacked


def cached(name):
    """A variable of the build's configuration."""
    return re.search(rf"^{name}:\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.M)[1]


def setUpModule():
    global scratch, cuda, tarball, bundle, expected
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="ptb_dist_bundle_")).resolve()
    unittest.addModuleCleanup(shutil.rmtree, scratch)
    cuda, root = scratch / "cuda", scratch / "root"
    cuda.mkdir()
    root.mkdir()
    for name, path in CUDA_LIBRARY.findall(succeed("ldd", build / "ptb_dist")):
        (cuda / name).symlink_to(path)
    tarball, bundle = pack(root, "--build", build)
    expected = perplexities(succeed(cached("MPIEXEC_EXECUTABLE"), *RANKS, build / "ptb_dist",
                                    *TRAINING))
    if len(expected) != 3:
        raise AssertionError(f"train, valid, test: {expected}")


class Contents(unittest.TestCase):
    def test_it_is_small(self):
        self.assertLess(tarball.stat().st_size, MAX_BYTES)

    def test_it_says_what_it_is_made_of(self):
        about = (bundle / "ABOUT.txt").read_text()
        self.assertIn(succeed(build / "ptb_dist", "--version"), about)
        self.assertRegex(about, r"C library 2\.\d+ or newer")
        if shutil.which("dpkg-query"):
            self.assertRegex(about, r"\nlibopenmpi\S* \d")
            for name in ("libdnnl2", "libstdc++6", "nlohmann-json3-dev"):
                self.assertRegex(about, rf"\n{re.escape(name)}(:\S+)? \d")
                self.assertIn("opyright", (bundle / "licences" / name).read_text())

    def test_nothing_that_a_node_has_of_its_own_is_in_it(self):
        names = [path.name for path in bundle.rglob("*.so*")]
        self.assertGreater(len(names), 50)
        self.assertEqual([name for name in names if NODES_OWN.match(name)], [])

    @unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not installed")
    def test_shellcheck_has_nothing_to_say_to_its_scripts(self):
        scripts = [*(bundle / "bin").iterdir(), bundle / "runtime/no_ssh",
                   bundle / "runtime/environment.sh"]
        self.assertEqual(len(scripts), 6)
        # SC1091: it does not know the place of the file that they read.
        self.assertEqual(run("shellcheck", "--exclude=SC1091", *scripts)[:2], (0, ""))


class OnThisMachine(unittest.TestCase):
    """In a folder with a blank, through links, on a site whose modules set what they like."""

    def setUp(self):
        folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        succeed("cp", "-al", bundle, folder / "a folder")
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("ptb_dist", "mpirun", "run.sh"):
            (self.bin / name).symlink_to(f"../a folder/bin/{name}")
        (folder / "site").mkdir()
        for library in (bundle / "runtime/lib").iterdir():
            if re.match(r"lib(mpi|open-pal|open-rte|pmix|hdf5\S*|fmt)\.so", library.name):
                (folder / "site" / library.name).write_text("no library\n")
        self.site = {"LD_LIBRARY_PATH": str(folder / "site"), "OPAL_PREFIX": "/usr",
                     "PMIX_PREFIX": "/usr", "OPAL_PKGLIBDIR": "/usr"}
        self.assertNotEqual(run(build / "ptb_dist", "--version", **self.site)[0], 0)

    def test_ranks(self):
        out = succeed(self.bin / "mpirun", *RANKS, self.bin / "ptb_dist", *TRAINING, **self.site)
        self.assertEqual(perplexities(out), expected)

    def test_the_supervisor_has_the_program_and_its_mpirun(self):
        out = succeed(self.bin / "run.sh", "--np", "2", *TRAINING)
        self.assertEqual(perplexities(out), expected)
        self.assertIn("/a folder/bin/ptb_dist --run-dir", out)


class BareRoot(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("only root can make a bare root")
        status, _, why = run("unshare", *NAMESPACES, "true")
        if status != 0:
            raise unittest.SkipTest(f"this root may not make namespaces: {why}")
        root = bundle.parent
        for folder in ("bin", "cuda", "dev", "proc", "tmp"):
            (root / folder).mkdir()
        for library in cuda.iterdir():
            (root / "cuda" / library.name).touch()
        shutil.copy("/bin/sh", root / "bin")
        (root / "bin/agent").write_text(AGENT)
        (root / "bin/agent").chmod(0o755)
        for library in set(C_LIBRARY.findall(succeed("ldd", "/bin/sh", build / "ptb_dist"))):
            copy = root / library[1:]
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, copy)

    def enter(self, *command):
        """The perplexities that it tells, and its complaints."""
        status, out, err = run("unshare", *NAMESPACES, "sh", "-ec", ENTER, "sh", bundle.parent,
                               cuda, *command)
        self.assertEqual(status, 0, out + err)
        # hwloc misses /sys, which a node has.
        complaints = [line for line in err.splitlines() if not line.startswith("[hwloc/linux]")]
        return perplexities(out), complaints

    def test_two_ranks(self):
        place = f"/{bundle.name}/bin"
        self.assertEqual(self.enter(f"{place}/mpirun", *RANKS, f"{place}/ptb_dist", *TRAINING),
                         (expected, []))

    def test_one_process_by_itself(self):
        told, complaints = self.enter(f"/{bundle.name}/bin/ptb_dist", *TRAINING)
        self.assertEqual((len(told), complaints), (3, []))

    def test_ranks_on_two_nodes(self):
        place = f"/{bundle.name}/bin"
        settings = ("plm_rsh_agent agent", "oob_tcp_if_include lo", "btl_tcp_if_include lo")
        words = [word for setting in settings for word in ("--mca", *setting.split())]
        told, _ = self.enter(f"{place}/mpirun", *words, "--host", "a,b", *RANKS,
                             f"{place}/ptb_dist", *TRAINING)
        self.assertEqual(told, expected)


class Libraries(unittest.TestCase):
    """Which ones are packed, of a program with CUDA and an Open MPI that are stand-ins."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        for name in ("driver/libcuda.so.1", "cuda/libcudart.so.99", "mpi/libplain.so.1",
                     "mpi/libucp.so.0"):
            cls.link(name)
        cls.link("mpi/mca_btl_plain.so", "mpi/libplain.so.1")
        cls.link("mpi/mca_pml_fast.so", "mpi/libplain.so.1", "mpi/libucp.so.0")
        program = {"options": [], "source": 'int puts(const char*);'
                                            'int main(void) { puts("CUDA: 13.0"); return 0; }'}
        cls.link("ptb_dist", "cuda/libcudart.so.99", "driver/libcuda.so.1", **program)
        cls.link("mpi/mpirun", **program)
        cls.link("mpi/orted", **program)
        cls.write("mpi/ompi_info", f"#!/bin/sh\necho path:$3:{cls.folder}/mpi\n")
        cls.write("mpi/help-nothing.txt", "")
        cls.write("CMakeCache.txt", "CMAKE_PROJECT_VERSION:STATIC=1\n"
                                    f"MPIEXEC_EXECUTABLE:FILEPATH={cls.folder}/mpi/mpirun\n")
        cls.write("cmake_install.cmake",
                  'file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/bin" TYPE EXECUTABLE\n'
                  '     FILES "${CMAKE_CURRENT_LIST_DIR}/ptb_dist")\n')

    @classmethod
    def link(cls, name, *needs, source="int nothing;", options=("-shared", "-fPIC")):
        path = cls.folder / name
        path.parent.mkdir(exist_ok=True)
        cls.write("source.c", source)
        needs = [cls.folder / need for need in needs]
        succeed(cached("CMAKE_C_COMPILER"), *options, f"-Wl,-soname,{path.name}",
                "-Wl,--no-as-needed", *[f"-Wl,-rpath,{need.parent}" for need in needs],
                cls.folder / "source.c", *needs, "-o", path)

    @classmethod
    def write(cls, name, text):
        (cls.folder / name).write_text(text)
        (cls.folder / name).chmod(0o755)

    def pack(self, *arguments):
        """(the names in lib, those of plug-ins, the program)"""
        folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        _, packed = pack(folder, "--build", self.folder, *arguments)
        libraries = packed / "runtime/lib"
        return (sorted(path.name for path in libraries.glob("*.so*")),
                [path.name for path in libraries.glob("openmpi/*")], packed / "bin/ptb_dist")

    def test_cuda_is_the_nodes(self):
        libraries, plugins, program = self.pack()
        self.assertEqual((libraries, plugins), (["libplain.so.1"], ["mca_btl_plain.so"]))
        node = {"LD_LIBRARY_PATH": str(self.folder / "driver")}
        self.assertIn("libcudart.so.99", run(program, **node, PTB_DIST_CUDA_LIBRARIES="")[2])
        succeed(program, PTB_DIST_CUDA_LIBRARIES=f"/nowhere:{self.folder}/cuda", **node)

    def test_cuda_on_request(self):
        libraries, plugins, program = self.pack("--cuda")
        self.assertEqual((libraries, plugins),
                         (["libcudart.so.99", "libplain.so.1"], ["mca_btl_plain.so"]))
        succeed(program, LD_LIBRARY_PATH=str(self.folder / "driver"))

    def test_one_that_is_missing_is_named(self):
        library = self.folder / "mpi/libplain.so.1"
        away = library.rename(self.folder / "away")
        self.addCleanup(away.rename, library)
        status, _, err = run(PROJECT / "launch/bundle.sh", "--build", self.folder)
        self.assertEqual(status, MISSING)
        self.assertRegex(err, r"^bundle.sh: error: libplain.so.1: not found, \S+/mca_btl_plain.so")


class Refusals(unittest.TestCase):
    def refuse(self, status, line, *arguments):
        output = scratch / "refused.tar.gz"
        ended = run(PROJECT / "launch/bundle.sh", *arguments, "--output", output)
        self.assertEqual(ended[::2], (status, f"bundle.sh: error: {line}\n"))
        self.assertFalse(output.exists())

    def test_cuda_of_a_build_without(self):
        plain = scratch / "plain"
        plain.mkdir()
        (plain / "ptb_dist").write_text("#!/bin/sh\necho 'CUDA: built without'\n")
        (plain / "ptb_dist").chmod(0o755)
        self.refuse(MISSING, f"--cuda: the program in {plain} was built without CUDA; build it with"
                    " CUDA first", "--build", plain, "--cuda")

    def test_an_output_that_is_no_file(self):
        for make in (os.mkfifo, os.mkdir):
            output = scratch / make.__name__
            make(output)
            status, _, err = run(PROJECT / "launch/bundle.sh", "--build", build, "--output", output)
            self.assertEqual(status, USAGE)
            self.assertEqual(err, f"bundle.sh: error: --output {output}: is there, and no file\n")
            self.assertFalse(output.is_file())
            self.assertEqual([*output.glob("*")], [])

    def test_no_build(self):
        self.refuse(MISSING, "/nowhere/ptb_dist: not there; build it, or name another folder",
                    "--build=/nowhere")

    def test_an_option_that_is_none(self):
        self.refuse(USAGE, "--rpm: no such option; launch/bundle.sh --help lists them", "--rpm")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=lambda path: pathlib.Path(path).resolve(), required=True)
    arguments, rest = parser.parse_known_args()
    build = arguments.build
    unittest.main(argv=[sys.argv[0], *rest])
