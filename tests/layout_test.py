#!/usr/bin/env python3
"""Who may include what, and how wide a line may be.

    python3 layout_test.py [unittest's arguments]

The tables below are the rules: the arrows between the folders, and the one place of each library's
header. A new arrow is a change of a table.
"""

import pathlib
import re
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent.parent

# Folder -> beginnings of our own headers that it may include, besides its own folder's.
ARROWS = {
    "base": (),
    "data": ("base/",),
    "backend": ("base/",),
    "comm": ("base/", "backend/"),
    "model": ("base/", "backend/", "data/lanes"),
    "optim": ("base/", "backend/", "model/parameters"),
    "io": ("base/", "backend/", "model/parameters", "model/state_table", "data/"),
    "train": ("base/", "backend/", "comm/", "data/", "io/", "model/", "optim/"),
    "run": ("base/", "backend/", "comm/", "data/", "io/", "model/", "optim/", "train/"),
    "commands": ("base/", "backend/", "comm/", "data/", "io/", "model/", "optim/", "train/",
                 "run/"),
    "": ("",),  # program and main, the wiring
}
# A private header, of src/, is for its own folder; but a GPU's sums need its stream and event.
SHARED_PRIVATE = {("src/comm/sums/nccl_communicator.cpp", "backend/cuda/native.hpp")}
# Each included by one file at most, which is in that folder.
ONE_FILE = {"mpi.h": "src/comm/", "nccl.h": "src/comm/", "hdf5.h": "src/io/hdf5/",
            "toml++/toml.h": "src/base/", "CLI/CLI.hpp": "src/base/",
            "nlohmann/json.hpp": "src/io/run_directory/", "xxhash.h": "src/io/files/"}
ONE_FOLDER = {"dnnl": "src/backend/cpu/", "cublas": "src/backend/cuda/",
              "cuda": "src/backend/cuda/"}
# Those that choose among the classes behind an interface, which all include it.
FACTORIES = {"src/backend/backend.cpp", "src/comm/sums/communicator.cpp"}
# Headers of the standard library have neither dot nor slash; this one is host and device code.
INTERFACE_MAY_INCLUDE = {"include/ptb_dist/base/random.hpp": "Random123/philox.h"}
# Where the preprocessor may decide: the host/device macro, who compiles a kernel, the loops'
# instruction sets, and the instruction with which a thread waits.
CONDITIONS = {"include/ptb_dist/base/host_device.hpp", "src/backend/cuda/launch.hpp",
              "src/backend/cpu/loops.cpp", "src/backend/cpu/amx.cpp",
              "src/base/openmp_environment.cpp"}
# What only launch.hpp may say, or nobody: only nvcc reads it, or it makes the host or other streams
# wait behind our back.
ONLY_LAUNCH_HPP = re.compile(
    r"<<<|\b__shared__\b|cuda_on_cpu|[Ee]mulat|\bcudaMemcpy(?:2D|ToSymbol)?\(|\bcudaMemset\(|"
    r"\bcudaDeviceSynchronize\(|\bcudaStreamCreate\(|\bcudaStreamLegacy\b")

# Lines of code are read side by side: this many characters, comments and strings included.
MAX_COLUMNS = 100
CODE_SUFFIXES = {".hpp", ".h", ".cpp", ".c", ".cu", ".cuh", ".py", ".sh", ".sbatch", ".cmake"}
# Of the top level: other names there are build folders, runs and data.
CODE_FOLDERS = ("src", "include", "launch", "configs", "tests", "cmake", ".ci")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
CONDITION = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b.*", re.MULTILINE)


def folder_of(path):
    """src/comm/session/session.cpp and include/ptb_dist/comm/session.hpp are of "comm"."""
    inside = re.sub(r"^(src|include/ptb_dist)/", "", path)
    return inside.split("/")[0] if "/" in inside else ""


def check_own(path, name):
    """What is wrong with an include of ours, or nothing."""
    folder = folder_of(path)
    header = name.removeprefix("ptb_dist/")
    if (path, name) in SHARED_PRIVATE:
        return None
    if "/" not in header:  # beside the file, or of the wiring
        return f"{path} reaches up to {name}" if name.startswith("ptb_dist/") and folder else None
    is_own = header.startswith(folder + "/")
    if not is_own and not header.startswith(ARROWS[folder]):
        return f"{path} includes {name}: no arrow from {folder} there"
    is_private = not name.startswith("ptb_dist/")
    if is_private and not is_own and folder:
        return f"{path} includes {name}, which is private to its folder"
    return None


def check_foreign(path, name):
    for library, folder in ONE_FILE.items():
        if name == library and not path.startswith(folder):
            return f"{path} includes <{name}>, which belongs to {folder}"
    for library, folder in ONE_FOLDER.items():
        if library in name and not path.startswith(folder):
            return f"{path} includes <{name}>, which belongs to {folder}"
    is_standard = "." not in name and "/" not in name
    if path.startswith("include/") and not is_standard:
        if INTERFACE_MAY_INCLUDE.get(path) != name:
            return f"{path} includes <{name}>: interfaces name no library"
    return None


def violations(files):
    """Of {path from the top: text}, a sentence each."""
    found = []
    users = {library: [] for library in ONE_FILE}
    for path, text in sorted(files.items()):
        for bracket, name in INCLUDE.findall(text):
            found.append(check_own(path, name) if bracket == '"' else check_foreign(path, name))
            if name in users:
                users[name].append(path)
        if path not in CONDITIONS:
            found += [f"{path} has {line.strip()}" for line in CONDITION.findall(text)]
        if path.startswith("src/backend/cuda/") and not path.endswith("/launch.hpp"):
            found += [f"{path} says {words}" for words in ONLY_LAUNCH_HPP.findall(text)]
    found += [f"<{library}> is included by {' and '.join(paths)}: one file is enough"
              for library, paths in users.items() if len(paths) > 1]
    return [sentence for sentence in found if sentence]


def unit_of(path):
    """A header and its source are one: include/ptb_dist/run/plan.hpp and src/run/plan.cpp."""
    return re.sub(r"^(src|include/ptb_dist)/", "", path).rsplit(".", 1)[0]


def circle(files):
    """Units of which each includes the next, and the last the first; empty if there is none.

    Those with a public header: a private one is a part of its neighbours.
    """
    public = {unit_of(path) for path in files if path.startswith("include/")}
    includes = {}
    for path, text in files.items():
        if path in FACTORIES or unit_of(path) not in public:
            continue
        names = (name.removeprefix("ptb_dist/") for bracket, name in INCLUDE.findall(text)
                 if bracket == '"')
        includes.setdefault(unit_of(path), set()).update(unit_of(name) for name in names)
    done = set()

    def search(unit, way):
        if unit in way:
            return way[way.index(unit):]
        if unit in done:
            return []
        for other in sorted(includes.get(unit, set()) - {unit}):
            if found := search(other, [*way, unit]):
                return found
        done.add(unit)
        return []

    return next(filter(None, (search(unit, []) for unit in sorted(includes))), [])


def wide_lines(files):
    """Of {path: text}, "path:line: columns" for each line that is too wide."""
    return [f"{path}:{number}: {len(line)} columns"
            for path, text in sorted(files.items())
            for number, line in enumerate(text.splitlines(), start=1) if len(line) > MAX_COLUMNS]


def is_code(path):
    """By its name, or because it is a script whose name has no suffix."""
    if path.suffix in CODE_SUFFIXES or path.name == "CMakeLists.txt":
        return True
    with path.open("rb") as file:
        return not path.suffix and file.read(2) == b"#!"


def code_of_project():
    """Whether git tracks it or not, so that a new file is seen before it is committed."""
    found = [SOURCE / "CMakeLists.txt"]
    for folder in CODE_FOLDERS:
        found += [path for path in (SOURCE / folder).rglob("*") if path.is_file() and is_code(path)]
    return {str(path.relative_to(SOURCE)): path.read_text() for path in found}


def files_of_project():
    return {str(path.relative_to(SOURCE)): path.read_text()
            for top in ("src", "include") for path in (SOURCE / top).rglob("*")
            if path.suffix in (".hpp", ".cpp", ".cu", ".cuh", ".h")}


class Layout(unittest.TestCase):
    def test_project_keeps_the_rules(self):
        files = files_of_project()
        self.assertGreater(len(files), 50)
        self.assertEqual(violations(files), [])

    def test_no_files_include_each_other_in_a_circle(self):
        self.assertEqual(circle(files_of_project()), [])

    def test_a_circle_is_found(self):
        files = {**{f"include/ptb_dist/run/{name}.hpp": "" for name in "abc"},
                 "src/run/a.cpp": '#include "ptb_dist/run/a.hpp"\n#include "ptb_dist/run/b.hpp"\n',
                 "src/run/b.cpp": '#include "ptb_dist/run/c.hpp"\n',
                 "src/run/c.cpp": '#include "ptb_dist/run/a.hpp"\n'}
        self.assertEqual(circle(files), ["run/a", "run/b", "run/c"])

    def test_each_folder_has_its_rules(self):
        self.assertEqual({folder_of(path) for path in files_of_project()}, set(ARROWS))

    def test_the_libraries_are_where_the_rules_look(self):
        """Else a rule may hold only because a header was renamed."""
        names = {name for text in files_of_project().values() for _, name in INCLUDE.findall(text)}
        for library in ONE_FILE:
            self.assertIn(library, names)
        self.assertTrue(any("dnnl" in name for name in names))

    def test_a_forbidden_include_is_found(self):
        for path, line in (
                ("src/base/error.cpp", '#include "ptb_dist/data/corpus.hpp"'),
                ("src/model/parameters.cpp", '#include "ptb_dist/data/corpus.hpp"'),
                ("include/ptb_dist/io/report.hpp", '#include "ptb_dist/model/language_model.hpp"'),
                ("src/comm/session/session.cpp", '#include "ptb_dist/run/plan.hpp"'),
                ("src/comm/session/session.cpp", '  #  include "backend/cpu/loops.hpp"'),
                ("src/train/trainer.cpp", '#include "io/files/file.hpp"'),
                ("src/train/trainer.cpp", '#include "ptb_dist/program.hpp"'),
                ("src/train/trainer.cpp", "#include <mpi.h>"),
                ("src/optim/sgd.cpp", "#include <oneapi/dnnl/dnnl.hpp>"),
                ("src/comm/sums/communicator.cpp", "#include <cuda_runtime.h>"),
                ("include/ptb_dist/comm/session.hpp", "#include <fmt/format.h>"),
                ("src/comm/sums/communicator.cpp", "#ifdef PTB_DIST_WITH_NCCL"),
                ("src/comm/sums/communicator.cpp", "#if defined(PTB_DIST_WITH_NCCL)"),
                ("src/backend/cuda/stack.cu", "// as on the emulation"),
                ("src/backend/cuda/stack.cu", "forward_step<<<blocks, kThreads>>>(s);"),
                ("src/backend/cuda/softmax.cu", "__shared__ double partial[256];"),
                ("src/backend/cuda/staging.cpp", "check(cudaMemcpy(to, from, bytes, kind));"),
                ("src/backend/cuda/dropout.cu", "#ifdef __CUDACC__")):
            with self.subTest(line, path=path):
                self.assertEqual(len(violations({path: f"// why\n{line}\n"})), 1)

    def test_a_second_user_of_a_library_is_found(self):
        files = {f"src/io/hdf5/{name}.cpp": "#include <hdf5.h>\n" for name in "ab"}
        self.assertEqual(len(violations(files)), 1)

    def test_no_line_is_too_wide(self):
        files = code_of_project()
        for path in ("CMakeLists.txt", "tests/CMakeLists.txt", "tests/layout_test.py", ".ci/run",
                     "cmake/cuda.cmake", "launch/run.sh", "src/main.cpp",
                     "src/backend/cuda/stack.cu", "include/ptb_dist/base/error.hpp"):
            self.assertIn(path, files)
        self.assertEqual(wide_lines(files), [])

    def test_a_line_that_is_too_wide_is_found(self):
        files = {"src/a.cpp": "// " + "é" * 97 + "\n",  # 100 characters, 197 bytes
                 "tests/b.py": "\n# " + "x" * 99 + "\n"}
        self.assertEqual(wide_lines(files), ["tests/b.py:2: 101 columns"])

    def test_an_allowed_include_is_not(self):
        for path, line in (
                ("src/model/language_model.cpp", '#include "ptb_dist/data/lanes.hpp"'),
                ("src/backend/backend.cpp", '#include "backend/cpu/cpu_backend.hpp"'),
                ("src/data/corpus.cpp", '#include "tokenizer.hpp"'),
                ("src/comm/sums/nccl_communicator.cpp", '#include "backend/cuda/native.hpp"'),
                ("src/backend/cuda/products.cpp", "#include <cublasLt.h>"),
                ("src/program.cpp", '#include "ptb_dist/train/trainer.hpp"'),
                ("src/base/error.cpp", "// #include <mpi.h> would be wrong here")):
            self.assertEqual(violations({path: line}), [])


if __name__ == "__main__":
    unittest.main()
