#!/usr/bin/env python3
"""For any defect of a run that is to be resumed: one clear line, the right exit status, and
unchanged checkpoints.

    python3 bad_restart_test.py --program build/ptb_dist [unittest's arguments]
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import program

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import rights  # noqa: E402

USAGE, BAD_DATA, MISSING, IO = 2, 65, 69, 74
TINY = ["--data", "synthetic", "--synthetic-tokens", "2000", "--synthetic-vocab", "20",
        "--vocab-size", "20", "--hidden-size", "4", "--num-steps", "4", "--batch-size", "4",
        "--eval-lanes", "2", "--threads", "1"]


def contents(folder):
    """Bytes of all files below, but of those that name who was here last."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in (".lock", ".attempt")}


class Restart(program.TestCase):
    common = tempfile.TemporaryDirectory(prefix="ptb_dist_restart_")

    def setUp(self):
        super().setUp()
        made = pathlib.Path(self.common.name, "run")
        if not made.exists():
            self.train([*TINY, "--max-windows", "30", "--checkpoint-windows", "10"],
                       run_dir=made)
        self.run_dir = self.scratch / "run"
        shutil.copytree(made, self.run_dir)
        self.files = sorted((self.run_dir / "checkpoints").glob("g*.h5"))
        self.assertEqual(len(self.files), 3)

    def refused(self, status, words, *flags, ranks=1, lines=1, changes_nothing=True, **where):
        """The run ends with the status, with so many lines that have all the words; what was there
        is there still."""
        before = contents(self.run_dir) if self.run_dir.is_dir() else None
        ended = self.run_program([*TINY, "--run-dir", "run", *flags], ranks=ranks, **where)
        errors = [line for line in ended.err.splitlines() if line.startswith("ptb_dist: error: ")]
        self.assertEqual((ended.status, len(errors)), (status, lines), ended.out + ended.err)
        for word in words:
            self.assertIn(word, "\n".join(errors))
        if before is not None and changes_nothing:
            self.assertEqual(contents(self.run_dir), before)
        return errors


class BadRestart(Restart):
    def test_a_run_that_is_there_and_no_word_about_it(self):
        self.refused(USAGE, ["run", "--resume auto", "--fresh"])
        self.refused(USAGE, ["run", "--resume auto", "--fresh"], ranks=2)

    def test_keys_that_differ_are_listed(self):
        errors = self.refused(USAGE, [], "--resume", "auto", "--lr-decay", "0.25", "--seed", "7",
                              "--hidden-size", "5", lines=3)
        self.assertIn("hidden_size", errors[0])
        self.assertIn("the checkpoint has 4, this run has 5; give --hidden-size 4", errors[0])
        self.assertIn("0.5, this run has 0.25; give --lr-decay 0.5, or allow it with --override "
                      "lr_decay", errors[1])
        self.assertIn("seed", errors[2])
        # Named, they are allowed; others still count.
        self.refused(USAGE, ["seed"], "--resume", "auto", "--lr-decay", "0.25", "--seed", "7",
                     "--override", "lr_decay")
        self.train([*TINY, "--resume", "auto", "--lr-decay", "0.25", "--seed", "7", "--override",
                    "lr-decay,seed", "--max-windows", "40"], run_dir=self.run_dir)

    def test_what_may_change_freely(self):
        self.train([*TINY, "--resume", "auto", "--epochs", "1", "--threads", "2",
                    "--checkpoint-windows", "7", "--timeout", "100", "--keep-checkpoints", "9"],
                   run_dir=self.run_dir)

    def test_another_corpus(self):
        self.refused(BAD_DATA, ["belongs to another corpus", "word ", "--data"], "--resume",
                     "auto", "--synthetic-vocab", "19")
        self.refused(BAD_DATA, ["another corpus", "1999 with", "--override data"], "--resume",
                     "auto", "--synthetic-tokens", "1999")

    def test_every_checkpoint_is_bad(self):
        for path in self.files:
            path.write_bytes(path.read_bytes()[:-1])
        errors = self.refused(BAD_DATA, ["--fresh"], "--resume", "auto", lines=4)
        for path, error in zip(reversed(self.files), errors):
            self.assertIn(path.name, error)
            self.assertRegex(error, r"truncated")
        fresh = self.train([*TINY, "--fresh", "--max-windows", "5"], run_dir=self.run_dir)
        self.assertEqual(len(fresh), 5)
        old = (self.run_dir / "old-1/checkpoints").iterdir()
        self.assertEqual(sorted(path.name for path in old), [path.name for path in self.files])

    def test_a_file_that_is_no_checkpoint(self):
        other = self.scratch / "other"
        for make, status, word in (
                (lambda: other.write_text(""), BAD_DATA, "empty"),
                (lambda: other.write_text("words\n"), BAD_DATA, "not a checkpoint"),
                (other.mkdir, BAD_DATA, "folder"),
                (lambda: os.mkfifo(other), BAD_DATA, "not a regular file"),
                (lambda: other.symlink_to("/dev/zero"), BAD_DATA, "not a regular file"),
                (lambda: other.symlink_to("other"), IO, "symbolic links"),
                (lambda: None, IO, "No such file")):
            with self.subTest(word):
                make()
                self.refused(status, ["other", word], "--resume", str(other), "--run-dir", "new")
                for command in (["checkpoint", "verify", str(other)],
                                ["eval", "--checkpoint", str(other)]):
                    ended = self.run_program(command)
                    self.assertEqual(ended.status, status, ended.err)
                    self.assertEqual(ended.err.count("\n"), 1, ended.err)
                self.assertFalse((self.scratch / "new").exists())
                if other.is_dir() and not other.is_symlink():
                    other.rmdir()
                else:
                    other.unlink(missing_ok=True)

    def test_a_missing_file_is_told_before_a_missing_corpus(self):
        self.refused(IO, ["other.h5", "No such file"], "--resume", "other.h5", "--run-dir", "new",
                     "--data", "nowhere")

    def test_a_checkpoint_of_another_run(self):
        other = self.scratch / "other"
        shutil.copytree(self.run_dir, other)
        self.refused(USAGE, ["does not belong to the run in", "another --run-dir"], "--resume",
                     str(other / "checkpoints" / self.files[0].name))

    def test_a_run_directory_in_use(self):
        holder = self.start_program([*TINY, "--run-dir", "run", "--resume", "auto", "--inject",
                                     "hang@0:31"])
        try:
            program.wait_for_fault(holder)
            time.sleep(0.2)  # until its last checkpoint is on the disk
            self.refused(USAGE, ["in use", str(holder.pid)], "--resume", "auto")
            self.refused(USAGE, ["in use", str(holder.pid)], "--fresh")
        finally:
            holder.kill()
            holder.communicate()
        # The kernel has freed the lock.
        self.train([*TINY, "--resume", "auto", "--max-windows", "40"], run_dir=self.run_dir)

    def test_beyond_the_end(self):
        self.refused(USAGE, ["the last epoch of this run is 0", "--epochs"],
                     "--resume", "auto", "--epochs", "0")

    def test_only_the_best_is_left(self):
        for path in self.files[1:]:
            path.unlink()
        self.files[0].rename(self.run_dir / "checkpoints/best.h5")
        self.refused(BAD_DATA, ["best.h5", "--fresh"], "--resume", "auto")
        self.train([*TINY, "--resume", "run/checkpoints/best.h5", "--max-windows", "40"],
                   run_dir=self.run_dir)

    def test_parameters_from_a_checkpoint_of_another_model(self):
        file = str(self.files[0])
        self.refused(BAD_DATA, ["another corpus", "word "], "--init-from", file,
                     "--synthetic-vocab", "19", "--run-dir", "new")
        self.refused(USAGE, ["forget_bias 0", "--forget-bias"], "--init-from", file,
                     "--forget-bias", "1", "--run-dir", "new")
        self.train([*TINY, "--init-from", file, "--max-windows", "2"])

    def test_a_diff_tells_what_differs(self):
        ended = self.run_program(["checkpoint", "diff", *map(str, self.files[:2])])
        self.assertEqual(ended.status, 1, ended.err)
        self.assertIn("progress: step 10 | 20", ended.out)
        self.assertRegex(ended.out, r"/parameters/softmax/bias \[20\]: 20 of 20 values differ")
        listed = subprocess.run(["h5ls", "-r", self.files[0]], capture_output=True, text=True)
        for name in ("/parameters/lstm/0/kernel Dataset {8, 16}", "/state/lstm/1/c "):
            self.assertIn(name, listed.stdout)
        ended = self.run_program(["checkpoint", "diff", *[str(self.files[0])] * 2])
        self.assertEqual((ended.status, ended.out), (0, "the files are equal, byte for byte\n"))

    def test_verify_looks_at_every_file(self):
        self.files[1].write_bytes(self.files[1].read_bytes()[:-1])
        ended = self.run_program(["checkpoint", "verify", *map(str, self.files)])
        self.assertEqual(ended.status, BAD_DATA)
        self.assertEqual([line.count(": good, step ") for line in ended.out.splitlines()], [1, 1])
        self.assertEqual(len(re.findall(r"(?m)^ptb_dist: error: ", ended.err)), 1)

    def test_eval_is_of_the_model_as_trained(self):
        ended = self.run_program(["eval", "--checkpoint", str(self.files[0]), "--keep-prob", "0.3",
                                  "--data", "synthetic"])
        self.assertEqual(ended.status, USAGE)
        self.assertIn("--keep-prob: the checkpoint has 1.0", ended.err)
        ended = self.run_program(["eval", "--checkpoint", str(self.files[0]), "--data",
                                  "synthetic", "--synthetic-vocab", "19"])
        self.assertEqual(ended.status, BAD_DATA)
        self.assertIn("belongs to another corpus", ended.err)

    def test_a_corpus_of_more_words_than_the_checkpoint_has(self):
        """Told as another corpus, with the flags that are right: --vocab-size would be refused."""
        words = " ".join(f"v{i}" for i in range(30))
        (self.scratch / "corpus").mkdir()
        for split in ("train", "valid", "test"):
            (self.scratch / f"corpus/ptb.{split}.txt").write_text(f"{words} <unk>\n" * 30)
        checkpoint = str(self.files[0].resolve())
        flags = ["--data synthetic", "--synthetic-tokens 2000", "--synthetic-vocab 20"]
        larger, text = ["--synthetic-vocab", "30"], ["--data", "corpus"]
        for other in (larger, text):
            for way in (["--resume", "auto"], ["--init-from", checkpoint, "--run-dir", "new"]):
                with self.subTest(way=way, other=other):
                    errors = self.refused(BAD_DATA, ["another corpus", *flags], *way, *other)
                    self.assertNotIn("--vocab-size", errors[0])
        evaluate = ["eval", "--checkpoint", checkpoint]
        for other in (["--data", "synthetic"], text):
            with self.subTest("eval", other=other):
                ended = self.run_program([*evaluate, *other], cwd=self.scratch)
                self.assertEqual(ended.status, BAD_DATA, ended.err)
                for flag in flags:
                    self.assertIn(flag, ended.err)
                self.assertNotIn("--vocab-size", ended.err)
        ended = self.run_program([*evaluate, *" ".join(flags).split()])  # the advice is right
        self.assertEqual(ended.status, 0, ended.err)


class FullDisk(Restart):
    def test_the_file_is_named_and_the_others_stay(self):
        """A disk with room for three checkpoints and a half: the fourth fails."""
        rights.require("small_disk")
        pages = -(-self.files[0].stat().st_size // 4096)
        flags = [*TINY, "--resume auto --checkpoint-windows 10 --max-windows 55",
                 "--keep-checkpoints 99 --run-dir run"]
        script = f"""
            mount -t tmpfs -o size={4 * (3 * pages + pages // 2 + 1)}k tmpfs disk
            cp run/checkpoints/* disk && mount --bind disk run/checkpoints
            status=0
            {self.program} {" ".join(flags)} || status=$?
            cp -a run/checkpoints left
            exit $status"""
        (self.scratch / "disk").mkdir()
        ended = subprocess.run(rights.with_mounts(self.scratch, script),
                               env=program.environment(), text=True, timeout=50,
                               capture_output=True)
        self.assertEqual(ended.returncode, IO, ended.stdout + ended.stderr)
        self.assertRegex(ended.stderr, r"(?m)^ptb_dist: error: .*step-00000040\.h5: No space left "
                                       r"on device \([\d.]+ [kM]B needed, .* free\); ")
        self.assertEqual(contents(self.scratch / "left"), {path.name: path.read_bytes()
                                                           for path in self.files})


if __name__ == "__main__":
    program.run_tests()
