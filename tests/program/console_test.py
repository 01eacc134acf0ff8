#!/usr/bin/env python3
"""What a run shows while it trains: the progress bar, and readers that do not read.

    python3 console_test.py --program build/ptb_dist [unittest's arguments]
"""

import contextlib
import fcntl
import os
import pathlib
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import termios
import time

import program
from program import SMALL_MODEL, checkpoints

ERASE = b"\x1b[K"
PATIENCE = 100  # seconds, for hangs
# Slow for long enough that the bar, which is drawn four times a second, is drawn at all.
RUN = [*SMALL_MODEL, "--max-windows", "13", "--timeout", "20", "--inject", "slow@0:10",
       "--run-dir", "run"]


class OnATerminal(program.TestCase):
    def seen(self, command, flags=(), columns=100, kind="xterm"):
        """What comes to a terminal on which the command runs, and log.txt."""
        folder = self.scratch / f"seen{self.runs}"
        self.runs += 1
        folder.mkdir()
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(folder)
            os.environ.update(program.environment({"TERM": kind}))
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            arguments = [*shlex.split(command), *RUN, *flags]
            os.execvp(arguments[0], arguments)
        text = b""
        with contextlib.suppress(OSError):  # how a terminal without users ends
            while piece := os.read(terminal, 1 << 16):
                text += piece
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, text)
        log = (folder / "run/log.txt").read_bytes()
        self.assertNotIn(b"\x1b", log)
        self.assertNotIn(b"\r", log)
        self.assertIn(b"perplexity:", log)
        return text, log

    def alone(self):
        return str(self.program)

    def by_mpirun(self, options=""):
        return f"{self.mpirun} {options} -np 2 {self.program}"

    def test_the_bar_is_below_the_lines(self):
        for command in (self.alone(), self.by_mpirun()):
            with self.subTest(command):
                text, log = self.seen(command)
                self.assertRegex(text, rb"\rEpoch: 1 \[=+\.+\] 1\d/142 loss \d+\.\d+\x1b\[K")
                # Wherever a bar stands it is drawn over or erased, so every line of the log is
                # whole.
                lines = text.replace(b"\r\n", b"\n").split(b"\n")
                for line in log.splitlines():
                    self.assertIn(line, [shown.rpartition(ERASE)[2] for shown in lines])

    def test_no_bar(self):
        for command, flags, kind in (
                (self.by_mpirun("--tag-output"), (), "xterm"),
                (self.by_mpirun(), ("--progress", "lines"), "xterm"),
                (self.by_mpirun(), (), "dumb"),
                (f"sh -c '{self.by_mpirun()} \"$@\" | cat' sh", (), "xterm"),
                (f"sh -c '{self.by_mpirun()} \"$@\" 2>err' sh", (), "xterm")):
            with self.subTest(command=command, flags=flags, kind=kind):
                text, _ = self.seen(command, flags, kind=kind)
                self.assertNotIn(ERASE, text)
                self.assertIn(b"perplexity:", text)

    def test_off(self):
        text, _ = self.seen(self.by_mpirun(), ("--progress", "off"))
        self.assertNotIn(ERASE, text)
        self.assertNotIn(b"perplexity:", text)

    def test_bar_on_request(self):
        """Wherever standard output goes, but not in the run's own config.toml."""
        ended = self.run_program([*RUN, "--progress", "bar"])
        self.assertIn(ERASE.decode(), ended.out)
        self.assertIn('progress = "auto"', (self.scratch / "run/config.toml").read_text())

    def test_a_narrow_terminal(self):
        text, _ = self.seen(self.by_mpirun(), columns=30)
        # A rank tells of its injected fault on standard error, which may come right behind a bar.
        bars = re.findall(rb"\r(Epoch: [^\r\n\x1b]*)\x1b\[K", text)
        self.assertEqual({len(bar) for bar in bars}, {29}, text)


class NobodyReads(program.TestCase):
    """Rank 0 writes to a pipe that is full, or to a terminal under Ctrl-S. (mpirun reads what its
    ranks say whether or not anybody reads mpirun.) The lines of a checkpoint have its long path."""

    def assert_goes_on(self, where, ranks):
        run_dir = pathlib.Path("run", *[f"{k:x}" * 240 for k in range(1, 14)])
        binary = self.each_rank(f"if [ $RANK = 0 ]; then exec >{shlex.quote(where)} 2>&1; fi")
        process = program.start(
            [*SMALL_MODEL, "--max-windows", "40", "--checkpoint-windows", "1", "--timeout", "5",
             "--run-dir", str(run_dir)], binary, ranks=ranks, mpirun=self.mpirun, cwd=self.scratch)
        try:
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            for survivor in program.processes_of_session(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(survivor, signal.SIGKILL)
        self.assertEqual(process.returncode, 0, err)
        log = (self.scratch / run_dir / "log.txt").read_text()
        self.assertEqual(log.count(f"\nCheckpoint: {run_dir}"), 40)
        last_line = "Stopped by --max-windows; windows done: 40\n"
        self.assertTrue(log.endswith(last_line), log[-99:])
        self.assertEqual(max(checkpoints(self.scratch / run_dir)), 40)
        shutil.rmtree(self.scratch / "run")

    def test_a_pipe(self):
        os.mkfifo(self.scratch / "pipe")
        end = os.open(self.scratch / "pipe", os.O_RDWR)  # both ends; nothing is read
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                self.assert_goes_on(str(self.scratch / "pipe"), ranks)
        os.close(end)

    def test_a_terminal(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                screen, terminal = pty.openpty()
                termios.tcflow(terminal, termios.TCOOFF)
                self.assert_goes_on(os.ttyname(terminal), ranks)
                os.close(screen)
                os.close(terminal)

    def test_closed_descriptors(self):
        """No file or pipe of MPI is where standard output would be."""
        process = subprocess.Popen(
            ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', self.program, *RUN], cwd=self.scratch,
            env=program.environment(), start_new_session=True)
        try:
            deadline = time.monotonic() + PATIENCE
            while not (self.scratch / "run/log.txt").exists():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            self.assertEqual({os.readlink(f"/proc/{process.pid}/fd/{k}") for k in range(3)},
                             {"/dev/null"})
            self.assertEqual(process.wait(timeout=PATIENCE), 0)
        finally:
            process.kill()

    def test_the_results_of_a_command_wait_for_their_reader_alone(self):
        """Other ranks do not wait for him, nor miss a deadline."""
        self.run_program([*RUN, "--checkpoint-windows", "13"])
        checkpoint = self.scratch / "run/checkpoints/g0000-step-00000013.h5"
        os.mkfifo(self.scratch / "pipe")
        end = os.open(self.scratch / "pipe", os.O_RDWR)
        os.set_blocking(end, False)
        filling = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filling += os.write(end, b"x" * 4096)
        binary = self.each_rank(f'if [ $RANK = 0 ]; then exec >pipe; else {self.program} "$@"; '
                                "echo $? >status; exit $(cat status); fi")
        process = program.start(
            ["eval", "--checkpoint", str(checkpoint), "--timeout", "5", *SMALL_MODEL[:6],
             "--threads", "1"], binary, ranks=2, mpirun=self.mpirun, cwd=self.scratch)
        deadline = time.monotonic() + PATIENCE
        while not (self.scratch / "status").exists() and process.poll() is None:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        text = b""
        while process.poll() is None:
            self.assertLess(time.monotonic(), deadline)
            with contextlib.suppress(BlockingIOError):
                text += os.read(end, 1 << 16)
            time.sleep(0.01)
        with contextlib.suppress(BlockingIOError):
            text += os.read(end, 1 << 16)
        os.close(end)
        _, err = process.communicate()
        self.assertEqual(process.returncode, 0, err)
        self.assertRegex(text[filling:].decode(), r"^Checkpoint: .*, step 13\n.*erplexity")

    def test_a_reader_who_is_late_gets_all(self):
        """Of what waits for him at the end he is given what he reads within two seconds."""
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        process = subprocess.Popen([self.program, *RUN], cwd=self.scratch, stdout=writing,
                                   env=program.environment(), stdin=subprocess.DEVNULL,
                                   stderr=writing)
        os.close(writing)
        log = self.scratch / "run/log.txt"
        deadline = time.monotonic() + PATIENCE
        while not log.exists() or "perplexity" not in log.read_text():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        with open(reading, "rb") as pipe:
            text = pipe.read()
        self.assertEqual(process.wait(timeout=PATIENCE), 0)
        lines = [line for line in text.splitlines() if b"(process " not in line]
        self.assertEqual(lines, log.read_bytes().splitlines())


if __name__ == "__main__":
    program.run_tests()
