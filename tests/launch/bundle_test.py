#!/usr/bin/env python3
"""launch/bundle.sh: does what it packs train where there is nothing else?

    python3 bundle_test.py --build build [unittest's arguments]

Packs the program of that build with the GPU suite, and runs both in another folder of this
machine, and in a bare root: a folder that has only the unpacked bundle, a C library, /bin/sh,
python3 for the suite, /proc and a /dev of its own, as a user who may do nothing (support/rights.py:
bare_root). What a bundle without the suite has is looked at in one of stand-ins, which is packed in
a second.
"""

import argparse
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest

from launch_test import MISSING, PROJECT, USAGE, environment

sys.path.insert(0, str(PROJECT / "tests/support"))
import rights  # noqa: E402

MAX_BYTES = 40_000_000  # the GPU suite in it, packed fast
TRAINING = ["--config", "test", "--data", "synthetic", "--synthetic-tokens", "5000",
            "--synthetic-vocab", "300", "--vocab-size", "300", "--threads", "1"]
RANKS = ["-np", "2", "--oversubscribe", "--bind-to", "none"]
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}

PLAIN = {"ABOUT.txt", "bin", "launch", "licences", "runtime"}
NODES_OWN = re.compile(r"lib(c|m|pthread|resolv|cuda|ucp|fabric|ibverbs|psm2)\.so|ld-linux")
C_LIBRARY = re.compile(r"(/\S*/(?:ld-linux\S*|lib(?:c|m|dl|rt|pthread|util|resolv))\.so\.\d)\b")
LIBRARY = re.compile(r"(?:=> |^\t)(/\S+)", re.M)
CUDA_LIBRARY = re.compile(r"(lib(?:cudart|cublas|cublasLt|nccl)\.so\.\d+) => (/\S+)")

# Into the bare root that is the folder, which gets the CUDA libraries in $1 as /cuda and Python's
# modules in $2, with the command behind them. They are mounted because they have 600 MB.
ENTER = """
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs dev
mount -t tmpfs -o mode=1777 tmpfs tmp
for library in $(ls "$1"); do
  mount --bind "$1/$library" "cuda/$library"
done
mount --bind "$2" "./$2"
for device in null:3 zero:5 random:8 urandom:9; do
  mknod -m 666 "dev/${device%:*}" c 1 "${device#*:}"
done
mkdir -m 1777 dev/shm
chroot=$(command -v chroot)
shift 2
exec env -i PATH=/bin HOME=/tmp PTB_DIST_CUDA_LIBRARIES=/cuda \\
  "$chroot" --userspec=65534:65534 --groups= . \\
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
    succeed(PROJECT / "launch/bundle.sh", *arguments, "--compress", "1", "--output", packed)
    succeed("tar", "-C", folder, "-xzf", packed)
    unpacked, = folder.glob("ptb_dist-*/")
    return packed, unpacked


def names(folder):
    return {path.name for path in folder.iterdir()}


def cached(name):
    """A variable of the build's configuration."""
    return re.search(rf"^{name}:\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.M)[1]


def gpu_tests():
    """Names of the tests of the label gpu, in the order of ctest."""
    listed = succeed("ctest", "--test-dir", build, "-N", "-L", "^gpu$")
    return re.findall(r"^ *Test +#\d+: (\S+)", listed, re.M)


def setUpModule():
    global scratch, cuda, tarball, bundle, expected
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="ptb_dist_bundle_")).resolve()
    unittest.addModuleCleanup(shutil.rmtree, scratch)
    cuda, root = scratch / "cuda", scratch / "root"
    cuda.mkdir()
    root.mkdir()
    for name, path in CUDA_LIBRARY.findall(succeed("ldd", build / "ptb_dist")):
        (cuda / name).symlink_to(path)
    tarball, bundle = pack(root, "--build", build, "--tests")
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
        found = [path.name for path in bundle.rglob("*.so*")]
        self.assertGreater(len(found), 50)
        self.assertEqual([name for name in found if NODES_OWN.match(name)], [])

    @unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not installed")
    def test_shellcheck_has_nothing_to_say_to_its_scripts(self):
        scripts = [*(bundle / "bin").iterdir(),
                   *(bundle / "runtime" / name for name in ("no_ssh", "environment.sh",
                                                            "cuda_libraries.sh"))]
        self.assertGreater(len(scripts), 6)
        # SC1091: it does not know the place of the file that they read.
        self.assertEqual(run("shellcheck", "--exclude=SC1091", *scripts)[:2], (0, ""))

    def test_what_the_gpu_suite_adds(self):
        self.assertEqual(names(bundle), {*PLAIN, "tests"})
        programs = names(bundle / "runtime/bin")
        self.assertEqual(names(bundle / "bin"),
                         {"gpu_suite.sh", "mpirun", "orted", "run.sh", *programs})
        tests = json.loads((bundle / "tests/gpu/gpu_suite.json").read_text())["tests"]
        started = {word for test in tests for word in test["command"]}
        self.assertEqual(programs - {"ptb_dist_gpu_phases", "ptb_dist_gpu_floors"},
                         {word.rpartition("/")[2] for word in started if "@/bin/" in word})
        self.assertLess({"test_backend", "ptb_dist_gpu_phases"}, programs)


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
        rights.require("bare_root")
        root = bundle.parent
        cls.modules = pathlib.Path(sysconfig.get_path("stdlib"))
        python = pathlib.Path(sys.executable).resolve()
        for folder in ("bin", "cuda", "dev", "proc", "tmp"):
            (root / folder).mkdir()
        (root / cls.modules.relative_to("/")).mkdir(parents=True)
        for library in cuda.iterdir():
            (root / "cuda" / library.name).touch()
        shutil.copy("/bin/sh", root / "bin")
        (root / "bin/agent").write_text(AGENT)
        (root / "bin/agent").chmod(0o755)
        (root / "bin/python3").symlink_to(python)
        for file in {*C_LIBRARY.findall(succeed("ldd", "/bin/sh", build / "ptb_dist")), str(python),
                     *LIBRARY.findall(succeed("ldd", python))}:
            copy = root / file[1:]
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)

    def enter(self, *command):
        """(status, stdout, stderr)"""
        return run(*rights.with_mounts(bundle.parent, ENTER, cuda, self.modules, *command,
                                       processes=True))

    def train(self, *command):
        """The perplexities that it tells, and its complaints."""
        status, out, err = self.enter(*command)
        self.assertEqual(status, 0, out + err)
        # hwloc misses /sys, which a node has.
        complaints = [line for line in err.splitlines() if not line.startswith("[hwloc/linux]")]
        return perplexities(out), complaints

    def test_two_ranks(self):
        place = f"/{bundle.name}/bin"
        self.assertEqual(self.train(f"{place}/mpirun", *RANKS, f"{place}/ptb_dist", *TRAINING),
                         (expected, []))

    def test_with_the_cuda_libraries_of_pip_alone(self):
        names = [library.name for library in cuda.iterdir()]
        if not names:
            self.skipTest("the program was built without CUDA")
        for name in names:
            package = "nccl" if name.startswith("libnccl") else "cu99"
            lib = bundle.parent / "venv/lib/python3.9/site-packages/nvidia" / package / "lib"
            lib.mkdir(parents=True, exist_ok=True)
            (lib / name).symlink_to(f"/cuda/{name}")
        for environment, status in (("/venv", 0), ("/nowhere", MISSING)):
            ended = self.enter("/bin/sh", "-c", "unset PTB_DIST_CUDA_LIBRARIES;"
                               f"VIRTUAL_ENV={environment} exec /{bundle.name}/bin/ptb_dist"
                               " --version")
            self.assertEqual(ended[0], status, ended)
            self.assertRegex(ended[2], "^CUDA's libraries, of pip: /venv/" if status == 0 else
                             r"^ptb_dist: error: lib\S+: neither the loader nor pip has it; .*\n$")

    def test_one_process_by_itself(self):
        told, complaints = self.train(f"/{bundle.name}/bin/ptb_dist", *TRAINING)
        self.assertEqual((len(told), complaints), (3, []))

    def test_ranks_on_two_nodes(self):
        place = f"/{bundle.name}/bin"
        settings = ("plm_rsh_agent agent", "oob_tcp_if_include lo", "btl_tcp_if_include lo")
        words = [word for setting in settings for word in ("--mca", *setting.split())]
        told, _ = self.train(f"{place}/mpirun", *words, "--host", "a,b", *RANKS,
                             f"{place}/ptb_dist", *TRAINING)
        self.assertEqual(told, expected)

    def test_the_gpu_suite_is_skipped_without_a_gpu(self):
        program = f"/{bundle.name}/bin/gpu_suite.sh"
        status, out, err = self.enter(program)
        machine, *lines, summary = out.splitlines()
        self.assertEqual((status, err), (0, ""), out)
        self.assertEqual(machine, "machine: no GPU known: nvidia-smi: No such file or directory")
        self.assertEqual([line.split(":")[0] for line in lines],
                         [f"skipped {name}" for name in gpu_tests()])
        for line in lines:
            self.assertRegex(line, "ptb_dist: error: .*(there is no NVIDIA driver|built without)")
        self.assertEqual(summary, f"0 passed, {len(lines)} skipped, 0 failed")
        # The same of one, where it may not be skipped.
        status, out, _ = self.enter("/bin/sh", "-c", f"PTB_DIST_REQUIRE=gpu {program} gpu_model")
        self.assertEqual(status, 1)
        self.assertRegex(out, r"\nfailed gpu_model: exit status 1\n +skipped: (.*\n)+"
                              r"0 passed, 0 skipped, 1 failed\n$")


# In the places of programs that need a GPU, those of the build that emulate one.
EMULATED = {"ptb_dist": "ptb_dist_cuda_on_cpu", "ptb_dist_graphs_or_not": "ptb_dist_cuda_on_cpu",
            "test_backend": "test_cuda_on_cpu", "ptb_dist_gpu_floors": "ptb_dist_gpu_floors_on_cpu",
            "ptb_dist_gpu_phases": "ptb_dist_gpu_phases_on_cpu"}
# What a site may have: a compute-sanitizer, whose options have a value each; here it finds out only
# whether the program is there. And an mpirun of its own, which is not to be used.
SITE = {"compute-sanitizer": """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift 2; done
exec "$1" --version
""", "mpirun": """#!/bin/sh
exit 1
"""}


class OnAnEmulatedGpu(unittest.TestCase):
    """The suite, and gpu.sh, in a folder with a blank, from another folder."""

    @classmethod
    def setUpClass(cls):
        if not (build / EMULATED["ptb_dist"]).exists():
            if "cuda_on_cpu" in os.environ.get("PTB_DIST_REQUIRE", "").split(","):
                raise AssertionError("PTB_DIST_REQUIRE has cuda_on_cpu, but it is not built")
            raise unittest.SkipTest("the CUDA emulation is not built")
        folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        cls.bundle = folder / "a folder"
        succeed("cp", "-al", bundle, cls.bundle)
        for name, emulated in EMULATED.items():
            program = cls.bundle / "runtime/bin" / name
            if program.exists():  # of a build without nvcc one is not
                cls.write(program, (build / emulated).read_bytes())
                succeed("patchelf", "--force-rpath", "--set-rpath", "$ORIGIN/../lib", program)
        cls.write(cls.bundle / "runtime/bin/test_model", b"#!/bin/sh\necho 3 errors >&2\nexit 3\n")
        (folder / "site").mkdir()
        for name, text in SITE.items():
            cls.write(folder / "site" / name, text.encode())
        cls.site = {"PATH": f"{folder}/site:{os.environ['PATH']}",
                    "BOOST_TEST_RUN_FILTERS": "operations/add"}
        # One of the operations, of the trainer's curves, and of what ranks do, is enough here.
        listed = cls.bundle / "tests/gpu/gpu_suite.json"
        tests = json.loads(listed.read_text())
        for test in tests["tests"]:
            if test["name"] == "gpu_ranks":
                test["command"].append("OneGpu.test_lane_groups_have_the_same_bits")
            if test["name"] == "gpu_trainer":
                test["command"][-1] += ".test_replayed_graphs_are_what_they_were_captured_from"
        cls.write(listed, json.dumps(tests).encode())

    @classmethod
    def write(cls, path, content):
        path.unlink(missing_ok=True)  # it may be a link to the suite's own
        path.write_bytes(content)
        path.chmod(0o755)

    def test_the_suite_says_what_became_of_each_test(self):
        status, out, err = run(self.bundle / "bin/gpu_suite.sh", "gpu_operations", "gpu_model",
                               "gpu_ranks", "gpu_memcheck", **self.site)
        self.assertEqual((status, err), (1, ""), out)
        self.assertRegex(out, r"\npassed gpu_operations: [\d.]+ s\n"
                              r"failed gpu_model: exit status 3\n    3 errors\n"
                              r"passed gpu_ranks: [\d.]+ s\n"
                              r"passed gpu_memcheck: [\d.]+ s\n"
                              r"3 passed, 0 skipped, 1 failed\n$")

    def test_one_that_is_not_there(self):
        status, out, err = run(self.bundle / "bin/gpu_suite.sh", "gpu_none")
        self.assertEqual((status, out), (USAGE, ""))
        self.assertIn(f"gpu_none: no such test; there are {', '.join(gpu_tests())}\n", err)

    def test_gpu_sh_has_the_programs_the_suite_and_the_mpirun(self):
        gpu_sh, out = self.bundle / "tests/bench/gpu.sh", scratch / "gpu"
        status, _, err = run(gpu_sh, "first", "--tiny", "--comm", "mpi", "--out", out, "--lanes",
                             "4", "--precisions", "fp32", "--python", "/no/python", **self.site)
        self.assertEqual(status, 1, err)  # there is no ncu, no PyTorch, and a test fails
        rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
        has_floors = (self.bundle / "bin/ptb_dist_gpu_floors").exists()
        tools = {"floor", "product"} if has_floors else set()
        self.assertLessEqual({"phase", "step", *tools}, {row["kind"] for row in rows})
        self.assertEqual([(row["test"], row["verdict"]) for row in rows if row["kind"] == "suite"],
                         [("gpu_operations", "passed"), ("gpu_model", "failed"),
                          ("gpu_trainer", "passed")])
        file = out / "scaling.jsonl"
        succeed(gpu_sh, "scaling", "tiny", "--rounds", "1", "--comm", "mpi", "--json", file,
                "--gpus", "2", "--precision", "fp32", "--strong-lanes", "4", "--weak-lanes", "2",
                **self.site, CUDA_ON_CPU_DEVICES="2")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        self.assertIn(("strong", 2), {(row.get("mode"), row.get("ranks")) for row in rows})


class Libraries(unittest.TestCase):
    """Which ones are packed, of a program with CUDA and an Open MPI that are stand-ins."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        for name in ("driver/libcuda.so.1", "cuda/libcudart.so.99", "cuda/libnccl.so.99",
                     "mpi/libplain.so.1", "mpi/libown.so.1", "mpi/libucp.so.0"):
            cls.link(name)
        cls.link("mpi/mca_btl_plain.so", "mpi/libplain.so.1")
        cls.link("mpi/mca_pml_fast.so", "mpi/libplain.so.1", "mpi/libucp.so.0")
        program = {"options": [], "source": 'int puts(const char*);'
                                            'int main(void) { puts("CUDA: 13.0"); return 0; }'}
        cls.link("ptb_dist", "cuda/libcudart.so.99", "cuda/libnccl.so.99", "driver/libcuda.so.1",
                 "mpi/libown.so.1", **program)
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

    @classmethod
    @functools.cache
    def pack(cls, *arguments):
        """(the names in lib, those of plug-ins, the program), made once for all tests."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        _, packed = pack(folder, "--build", cls.folder, *arguments)
        libraries = packed / "runtime/lib"
        return (sorted(path.name for path in libraries.glob("*.so*")),
                [path.name for path in libraries.glob("openmpi/*")], packed / "bin/ptb_dist")

    def test_without_the_gpu_suite(self):
        packed = self.pack()[2].parent.parent
        self.assertEqual(names(packed), PLAIN)
        self.assertEqual(names(packed / "bin"), {"mpirun", "orted", "ptb_dist", "run.sh"})
        self.assertEqual(names(packed / "runtime/bin"), {"ptb_dist"})

    def test_cuda_is_the_nodes(self):
        libraries, plugins, program = self.pack()
        self.assertEqual((libraries, plugins),
                         (["libown.so.1", "libplain.so.1"], ["mca_btl_plain.so"]))
        node = {"LD_LIBRARY_PATH": str(self.folder / "driver")}
        self.assertIn("libcudart.so.99", run(program, **node, PTB_DIST_CUDA_LIBRARIES="")[2])
        succeed(program, PTB_DIST_CUDA_LIBRARIES=f"/nowhere:{self.folder}/cuda", **node)

    def pip(self, *packages):
        """A folder nvidia/ with links in these packages' lib/ to the libraries that are named."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=scratch, prefix="a folder ")) / "nvidia"
        for package, library in packages:
            (folder / package / "lib").mkdir(parents=True, exist_ok=True)
            (folder / package / "lib" / library).symlink_to(self.folder / "cuda" / library)
        return folder

    def test_cuda_of_pip(self):
        """Where the loader does not find them; in whichever of its folders, with python3 or not."""
        program = self.pack()[2]
        bare = pathlib.Path(tempfile.mkdtemp(dir=scratch))  # a PATH with nothing in it
        node = {"LD_LIBRARY_PATH": str(self.folder / "driver"), "PTB_DIST_CUDA_LIBRARIES": "",
                "VIRTUAL_ENV": "", "CONDA_PREFIX": "", "HOME": str(bare)}
        cudart, nccl = "libcudart.so.99", "libnccl.so.99"
        of_cuda_12 = self.pip(("cuda_runtime", cudart), ("nccl", nccl))
        of_cuda_13 = self.pip(("cu13", cudart), ("nccl", nccl))
        venv = of_cuda_13.parent / "venv"
        (venv / "lib/python3.9/site-packages").mkdir(parents=True)
        (venv / "lib/python3.9/site-packages/nvidia").symlink_to(of_cuda_13)
        (of_cuda_13.parent / ".local").symlink_to(venv)
        halves = [self.pip(("cu13", cudart)), self.pip(("nccl", nccl))]
        both = ":".join(str(half.parent) for half in halves)
        for changes, folders in (
                (dict(PYTHONPATH=str(of_cuda_12.parent)),
                 [of_cuda_12 / "cuda_runtime/lib", of_cuda_12 / "nccl/lib"]),
                (dict(PYTHONPATH=both), [halves[0] / "cu13/lib", halves[1] / "nccl/lib"]),
                (dict(VIRTUAL_ENV=str(venv), PATH=str(bare)), None),
                (dict(CONDA_PREFIX=str(venv), PATH=str(bare)), None),
                (dict(HOME=str(venv.parent), PATH=str(bare)), None)):
            with self.subTest(changes):
                status, out, err = run(program, "--version", **{**node, **changes})
                self.assertEqual((status, out), (0, "CUDA: 13.0\n"), err)
                told = err.removeprefix("CUDA's libraries, of pip: ").strip().split(":")
                if folders:
                    self.assertEqual(set(told), set(map(str, folders)))
                self.assertEqual(len(told), 2)
                self.assertEqual(run(program, **{**node, **changes})[1:], ("CUDA: 13.0\n", ""))

    def test_cuda_of_pip_comes_last(self):
        program = self.pack()[2]
        pip = self.pip(("cu13", "libcudart.so.99"), ("nccl", "libnccl.so.99"))
        cuda = str(self.folder / "cuda")
        for node in ({"PTB_DIST_CUDA_LIBRARIES": cuda,
                      "LD_LIBRARY_PATH": str(self.folder / "driver")},
                     {"PTB_DIST_CUDA_LIBRARIES": "",
                      "LD_LIBRARY_PATH": f"{self.folder}/driver:{cuda}"}):
            status, _, err = run(program, "--version", PYTHONPATH=str(pip.parent), **node)
            self.assertEqual((status, err), (0, ""))

    def test_one_of_cuda_that_is_nowhere(self):
        program = self.pack()[2]
        pip = self.pip(("cu13", "libcudart.so.99"))
        status, _, err = run(program, PTB_DIST_CUDA_LIBRARIES="", VIRTUAL_ENV="",
                             PYTHONPATH=str(pip.parent),
                             LD_LIBRARY_PATH=str(self.folder / "driver"))
        self.assertEqual((status, err), (
            MISSING, "ptb_dist: error: libnccl.so.99: neither the loader nor pip has it; install "
                     "CUDA's libraries, or name their folders in PTB_DIST_CUDA_LIBRARIES\n"))

    def test_cuda_on_request(self):
        libraries, plugins, program = self.pack("--cuda")
        self.assertEqual((libraries, plugins),
                         (["libcudart.so.99", "libnccl.so.99", "libown.so.1", "libplain.so.1"],
                          ["mca_btl_plain.so"]))
        succeed(program, LD_LIBRARY_PATH=str(self.folder / "driver"))

    def test_one_that_is_missing_is_named(self):
        library = self.folder / "mpi/libplain.so.1"
        away = library.rename(self.folder / "away")
        self.addCleanup(away.rename, library)
        status, _, err = run(PROJECT / "launch/bundle.sh", "--build", self.folder)
        self.assertEqual(status, MISSING)
        self.assertRegex(err, r"^bundle.sh: error: libplain.so.1: not found, \S+/mca_btl_plain.so")

    def test_a_build_without_tests_is_told(self):
        status, _, err = run(PROJECT / "launch/bundle.sh", "--build", self.folder, "--tests")
        self.assertEqual((status, err), (MISSING, "bundle.sh: error: --tests: the build in "
                                         f"{self.folder} has none; configure it with"
                                         " -DPTB_DIST_TESTS=ON\n"))


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

    def test_a_level_that_gzip_has_not(self):
        for level in ("0", "10", "fast"):
            self.refuse(USAGE, f"--compress {level}: give a level from 1 to 9", "--compress", level)

    def test_an_option_that_is_none(self):
        self.refuse(USAGE, "--rpm: no such option; launch/bundle.sh --help lists them", "--rpm")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=lambda path: pathlib.Path(path).resolve(), required=True)
    arguments, rest = parser.parse_known_args()
    build = arguments.build
    unittest.main(argv=[sys.argv[0], *rest])
