#!/usr/bin/env python3
"""The scripts of launch/, without a network: get_ptb.sh with a server of this test, quickstart.sh
with stand-ins for what it would install, build and start, and shellcheck on all scripts.

    python3 launch_test.py [unittest's arguments]

Tests that need the real Penn Treebank take it from $PTB_DATA. They are skipped if that is unset,
unless PTB_DIST_REQUIRE has ptb.
"""

import contextlib
import functools
import http.server
import os
import pathlib
import pty
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import unittest

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
NAMES = [f"ptb.{split}.txt" for split in ("train", "valid", "test")]
USAGE, BAD_DATA, MISSING, IO = 2, 65, 69, 74


def ptb_folder():
    folder = os.environ.get("PTB_DATA")
    if folder:
        return pathlib.Path(folder)
    if "ptb" in os.environ.get("PTB_DIST_REQUIRE", "").split(","):
        raise AssertionError("PTB_DIST_REQUIRE has ptb, but PTB_DATA is unset")
    raise unittest.SkipTest("PTB_DATA is unset")


def scripts():
    return [*(PROJECT / "launch").glob("*.sh"), *(PROJECT / "launch").glob("*.sbatch")]


def environment(changes):
    """Without a corpus, and without a proxy, which would hide this machine's server."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith("PTB_") and not name.lower().endswith("_proxy")}
    return {**kept, **changes}


def run(*command, **changes):
    """(status, all that it says)"""
    ended = subprocess.run([str(word) for word in command], text=True, timeout=50,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, env=environment(changes))
    return ended.returncode, ended.stdout


def run_at_a_terminal(*command, **changes):
    """(status, all that comes to the terminal)"""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(str(command[0]), [str(word) for word in command],
                   environment({"TERM": "xterm", **changes}))
    text = b""
    with contextlib.suppress(OSError):  # how a terminal without users ends
        while piece := os.read(terminal, 1 << 16):
            text += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text.decode().replace("\r\n", "\n")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class ScratchTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ptb_dist_launch_")
        self.addCleanup(folder.cleanup)
        self.scratch = pathlib.Path(folder.name)
        self.served = self.scratch / "served"
        self.served.mkdir()

    def serve(self):
        """The URL of self.served."""
        handler = functools.partial(QuietHandler, directory=self.served)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def refusing_url(self):
        """Of a port that nobody else gets while the test runs, and that takes no connection."""
        bound = socket.socket()
        self.addCleanup(bound.close)
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}"

    def write_texts(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            (folder / name).write_text("no treebank\n")

    def pack(self, folder):
        with tarfile.open(self.served / "examples.tgz", "w:gz") as archive:
            for name in NAMES:
                archive.add(folder / name, f"./simple-examples/data/{name}")
            archive.add(__file__, "./simple-examples/data/README")


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class GetPtb(ScratchTest):
    def setUp(self):
        super().setUp()
        self.target = self.scratch / "target"

    def get(self, url, target=None):
        return run(PROJECT / "launch/get_ptb.sh", target or self.target, PTB_URL=url)

    def check_is_empty(self):
        self.assertEqual(list(self.target.iterdir()), [])

    def check_is_complete(self):
        self.assertEqual(sorted(path.name for path in self.target.iterdir()), sorted(NAMES))
        for name in NAMES:
            self.assertEqual((self.target / name).read_bytes(),
                             (ptb_folder() / name).read_bytes(), name)

    def test_ptb_right_files_are_fetched(self):
        for name in NAMES:
            shutil.copyfile(ptb_folder() / name, self.served / name)
        self.assertEqual(self.get(self.serve())[0], 0)
        self.check_is_complete()

    def test_ptb_right_files_are_taken_from_an_archive(self):
        self.pack(ptb_folder())
        self.assertEqual(self.get(self.serve() + "/examples.tgz")[0], 0)
        self.check_is_complete()

    def test_ptb_right_files_need_no_network(self):
        self.target.mkdir()
        for name in NAMES:
            shutil.copyfile(ptb_folder() / name, self.target / name)
        self.assertEqual(self.get(self.refusing_url())[0], 0)
        self.check_is_complete()

    def test_ptb_one_wrong_file_of_three_is_named_and_none_is_kept(self):
        for name in NAMES:
            shutil.copyfile(ptb_folder() / name, self.served / name)  # it may be read-only
        with open(self.served / NAMES[1], "ab") as file:
            file.write(b"\n")
        status, text = self.get(self.serve())
        self.assertEqual(status, BAD_DATA, text)
        self.assertIn("SHA-256 differs): ptb.valid.txt\n", text)
        self.check_is_empty()

    def test_wrong_sums_are_bad_data(self):
        self.write_texts(self.served)
        status, text = self.get(self.serve())
        self.assertEqual(status, BAD_DATA, text)
        self.assertIn("SHA-256 differs", text)
        self.check_is_empty()

    def test_a_wrong_archive_is_bad_data(self):
        self.write_texts(self.scratch / "texts")
        self.pack(self.scratch / "texts")
        self.assertEqual(self.get(self.serve() + "/examples.tgz")[0], BAD_DATA)
        self.check_is_empty()

    def test_a_wrong_file_that_is_there_already_is_kept_and_named(self):
        self.write_texts(self.target)
        status, text = self.get(self.refusing_url())
        self.assertEqual(status, BAD_DATA, text)
        self.assertIn(str(self.target / "ptb.train.txt"), text)
        self.assertEqual((self.target / "ptb.train.txt").read_text(), "no treebank\n")

    def test_a_mirror_that_gives_nothing_is_named(self):
        (self.served / "text.tgz").write_text("not an archive\n")
        url = self.serve()
        for mirror in (self.refusing_url(), url + "/absent", url + "/text.tgz"):
            with self.subTest(mirror):
                status, text = self.get(mirror)
                self.assertEqual(status, MISSING, text)
                self.assertIn(f"trying {mirror}\n", text)
                self.assertIn("  failed: ", text)
                self.assertIn("by hand", text.splitlines()[-1])
                self.check_is_empty()

    def test_what_cannot_be_done_is_said_at_once(self):
        (self.scratch / "file").touch()
        self.assertEqual(self.get(self.refusing_url(), self.scratch / "file/target")[0], IO)
        self.assertEqual(self.get(self.refusing_url(), "--force")[0], USAGE)


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class Quickstart(ScratchTest):
    """In a copy of launch/ where nothing is installed or built, and mpirun prints its arguments."""

    def setUp(self):
        super().setUp()
        self.launch = self.scratch / "project/launch"
        self.tools = self.scratch / "tools"
        for folder in (self.launch, self.tools):
            folder.mkdir(parents=True)
        for name in ("common.sh", "get_ptb.sh", "quickstart.sh"):
            shutil.copy(PROJECT / "launch" / name, self.launch)
        self.stand_in(self.launch / "packages.sh", "")
        self.stand_in(self.tools / "cmake", "")
        self.stand_in(self.tools / "mpirun", 'echo "started: $*"')

    def stand_in(self, path, text):
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self, *arguments, how=run, **changes):
        return how(self.launch / "quickstart.sh", *arguments,
                   PATH=f"{self.tools}:{os.environ['PATH']}", **changes)

    def test_without_a_network_it_trains_on_the_built_in_corpus(self):
        status, text = self.start("--np", "3", "--epochs", "1", PTB_URL=self.refusing_url())
        self.assertEqual(status, 0, text)
        self.assertIn("NOTE: no Penn Treebank", text)
        started = text.splitlines()[-1]
        self.assertTrue(started.startswith("started: -np 3 "), text)
        self.assertTrue(started.endswith("ptb_dist --data synthetic --epochs 1"), text)

    def check_is_over(self, code, *arguments, **changes):
        status, text = self.start(*arguments, **changes)
        self.assertEqual(status, code, text)
        self.assertNotIn("started", text)

    def test_a_mirror_with_something_else_ends_it(self):
        self.write_texts(self.served)
        self.check_is_over(BAD_DATA, PTB_URL=self.serve())

    def test_a_disk_that_takes_no_corpus_ends_it(self):
        (self.scratch / "project/data").touch()  # no folder can be made there
        self.check_is_over(IO, PTB_URL=self.refusing_url())

    def test_a_corpus_that_is_there_is_taken(self):
        texts = self.scratch / "texts"
        self.write_texts(texts)
        for arguments, changes in ((["--data", texts], {}), ([], {"PTB_DATA": str(texts)})):
            status, text = self.start(*arguments, PTB_URL=self.refusing_url(), **changes)
            self.assertEqual(status, 0, text)
            self.assertTrue(text.splitlines()[-1].endswith(f"--data {texts}"), text)

    def test_at_a_terminal_it_asks_for_the_bar(self):
        for kind, flags in (("xterm", " --progress bar"), ("dumb", "")):
            status, text = self.start("--data", "synthetic", "--epochs", "1",
                                      how=run_at_a_terminal, TERM=kind)
            self.assertEqual(status, 0, text)
            self.assertTrue(text.endswith(f" --data synthetic{flags} --epochs 1\n"), text)

    def test_no_corpus_where_one_was_promised_ends_it(self):
        self.check_is_over(BAD_DATA, "--data", self.scratch / "nowhere")


class Scripts(unittest.TestCase):
    def test_cores_are_those_of_the_machine(self):
        command = ["bash", "-c", 'set -euo pipefail; source "$0"; cores',
                   PROJECT / "launch" / "common.sh"]
        expected = run(*command)
        self.assertRegex(expected[1], r"^[1-9]\d*\n$")
        # nproc would answer with these numbers.
        for settings in ({"OMP_NUM_THREADS": "1"}, {"OMP_THREAD_LIMIT": "1"}):
            self.assertEqual(run(*command, **settings), expected, settings)

    @unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not installed")
    def test_shellcheck_has_nothing_to_say(self):
        all_scripts = [*scripts(), PROJECT / ".ci/run", *(PROJECT / "tests").rglob("*.sh")]
        self.assertGreater(len(all_scripts), 5)
        # --external-sources: where the script it sources is, as its directive says.
        status, text = run("shellcheck", "--external-sources", *all_scripts)
        self.assertEqual((status, text), (0, ""))

    def test_each_says_how_it_is_used(self):
        for script in scripts():
            if script.name == "common.sh":  # sourced, never run
                continue
            with self.subTest(script.name):
                status, text = run(script, "--help")
                self.assertEqual(status, 0)
                self.assertIn(f"launch/{script.name}", text)


if __name__ == "__main__":
    unittest.main()
