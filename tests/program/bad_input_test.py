#!/usr/bin/env python3
"""For any mistake in a user's input: one clear line, the right exit status, and no hang.

    python3 bad_input_test.py --program build/ptb_dist_without_cuda --whole build/ptb_dist
                              [unittest's arguments]

Each case runs on one rank and on two. An error that all ranks know is printed once and ends the
program without MPI_Abort, whose banner would hide it. ptb_dist_mutant must be beside the program.
Cases that depend on CUDA's libraries run the whole program.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import re
import socket

import program

USAGE, BAD_DATA, MISSING, IO, DIVERGED = 2, 65, 69, 74, 76
ERROR = "ptb_dist: error: "
TINY = ["--data", "synthetic", "--synthetic-tokens", "2000", "--synthetic-vocab", "20",
        "--vocab-size", "20", "--hidden-size", "4", "--num-steps", "4", "--batch-size", "4",
        "--eval-lanes", "2", "--max-windows", "2", "--threads", "1", "--run-dir", "run"]
TEXT = "a b c a <unk>\n" * 200


@dataclasses.dataclass
class Case:
    """Flags after TINY's that must fail, and words that each error line must hold."""
    name: str
    status: int
    lines: list
    flags: list
    ranks: tuple = (1, 2)
    files: dict = dataclasses.field(default_factory=dict)  # path -> text, bytes or a function
    environment: dict = dataclasses.field(default_factory=dict)
    is_of_the_whole: bool = False


def corpus(train=TEXT, valid=TEXT, test=TEXT):
    return {"corpus/ptb.train.txt": train, "corpus/ptb.valid.txt": valid,
            "corpus/ptb.test.txt": test}


DATA = ["--data", "corpus"]
CORPUS_CASES = [
    Case("no corpus", BAD_DATA, [["no corpus", "$PTB_DATA", "launch/get_ptb.sh"]],
         ["--data", ""]),
    Case("a folder that is not there", BAD_DATA, [["no corpus", "nowhere", "No such file"]],
         ["--data", "nowhere"]),
    Case("$PTB_DATA is not there", BAD_DATA,
         [["$PTB_DATA: no corpus", "nowhere", "No such file", "launch/get_ptb.sh"]],
         ["--data", ""], environment={"PTB_DATA": "nowhere"}),
    Case("a folder without files", BAD_DATA, [["corpus/ptb.train.txt", "No such file"]], DATA,
         files={"corpus": os.mkdir}),
    Case("a file for a folder", BAD_DATA, [["corpus", "not a folder"]], DATA,
         files={"corpus": TEXT}),
    Case("an empty split", BAD_DATA, [["corpus/ptb.valid.txt", "empty"]], DATA,
         files=corpus(valid="")),
    Case("a blank split", BAD_DATA, [["corpus/ptb.train.txt", "only white space"]], DATA,
         files=corpus(train=" \n\n")),
    Case("a directory for a file", BAD_DATA, [["corpus/ptb.test.txt", "folder"]], DATA,
         files=corpus(test=os.mkdir)),
    Case("a pipe for a file", BAD_DATA, [["corpus/ptb.train.txt", "not a regular file"]], DATA,
         files=corpus(train=os.mkfifo)),
    Case("a NUL byte", BAD_DATA, [["ptb.train.txt:2", "NUL", "byte 5"]], DATA,
         files=corpus(train="a b\nc\0d\n" + TEXT)),
    Case("not UTF-8", BAD_DATA, [["ptb.valid.txt:3", "UTF-8", "byte 6 "]], DATA,
         files=corpus(valid=b"a b\n\na\xff\n" + TEXT.encode())),
    Case("too few tokens", BAD_DATA,
         [["train", "1200 tokens / 300 lanes = 4", "needs 5",
           "lower --batch-size to 240 or --num-steps to 3"]],
         [*DATA, "--batch-size", "300"], files=corpus()),
    Case("too few tokens for validation", BAD_DATA,
         [["valid", "12 tokens / 5 lanes = 2", "needs 5",
           "lower --eval-lanes to 2 or --num-steps to 1"]],
         [*DATA, "--eval-lanes", "5"], files=corpus(valid="a b c a b\n" * 2)),
    Case("too few tokens for the test", BAD_DATA,
         [["test", "1 token / 1 lane = 1", "needs 2; give a longer text"]], DATA,
         files=corpus(test="a")),
    Case("too few tokens for weak scaling", BAD_DATA,
         [["train", "1200 tokens / 600 lanes", "lower --batch-size to 120 or --num-steps to 1"]],
         [*DATA, "--batch-size", "300", "--scaling", "weak"], files=corpus(), ranks=(2,)),
    Case("too few tokens for as many ranks", BAD_DATA,
         [["train", "8 tokens / 2 lanes = 4", "needs 5; lower --num-steps to 3"]],
         [*DATA, "--batch-size", "2"], files=corpus(train="a b c <unk>\n" + "a b a"), ranks=(2,)),
    Case("too many words", BAD_DATA, [["ptb.train.txt", "5", "vocab_size is 4"]],
         [*DATA, "--vocab-size", "4"], files=corpus()),
    Case("a synthetic vocabulary that does not fit", USAGE, [["vocab_size = 10", "20 words"]],
         ["--vocab-size", "10"]),
    Case("an unknown word and no <unk>", BAD_DATA, [["ptb.test.txt:1", '"d"', "<unk>"]], DATA,
         files=corpus(*["a b c\n" * 100] * 2, "a d\n" * 100)),
]

WRONG_FILE = """\
hidden_sise = 10
num_steps = "many"
keep_prob = 1.5
seed = 1
seed = 2
"""
CONFIGURATION_CASES = [
    Case("everything wrong in a file", USAGE,
         [["bad.toml:5", "duplicate", "seed"], ["bad.toml:1", "hidden_sise", "hidden_size"],
          ["bad.toml:2", "num_steps", "integer"], ["bad.toml:3", "keep_prob", "1.5"]],
         ["--config", "bad.toml"], files={"bad.toml": WRONG_FILE}),
    Case("no such configuration", USAGE, [["smal", "small", "did you mean"]],
         ["--config", "smal"]),
    Case("no such file", USAGE, [["none.toml", "No such file"]], ["--config", "none.toml"]),
    Case("an unknown flag", USAGE, [["--hidden-sizes", "did you mean", "--hidden-size"]],
         ["--hidden-sizes", "3"]),
    Case("two wrong flags", USAGE, [["--num-layers", "0", "from 1 to"], ["--seed", "one"]],
         ["--num-layers", "0", "--seed", "one"]),
    Case("no windows", USAGE, [["--max-windows", '"0"', "from 1"]], ["--max-windows", "0"]),
    Case("fewer than no windows", USAGE, [["--max-windows", "-3"]], ["--max-windows=-3"]),
    Case("fewer than no epochs", USAGE, [["--max-max-epoch", "-1", "from 0"]], ["--epochs=-1"]),
    Case("bf16 on a CPU without it", MISSING, [["bf16", "AMX", "AVX512_BF16", "fp32"]],
         ["--backend", "cpu", "--precision", "bf16"], environment={"DNNL_MAX_CPU_ISA": "AVX2"}),
    Case("tf32 on a CPU", USAGE, [["tf32", "fp32", "bf16"]],
         ["--backend", "cpu", "--precision", "tf32"]),
    Case("no CUDA", MISSING, [["cuda", "--backend cpu"]], ["--backend", "cuda"],
         is_of_the_whole=True),
    Case("no NCCL", MISSING, [["nccl", "--comm mpi"]], ["--comm", "nccl"],
         is_of_the_whole=True),
    Case("single is not two", USAGE, [["--comm single", "there are 2"]], ["--comm", "single"],
         ranks=(2,)),
    Case("more ranks than lanes", USAGE, [["3 ranks", "2 lanes", "weak"]], ["--batch-size", "2"],
         ranks=(3,)),
    Case("a Slurm step of singletons", USAGE, [["SLURM_STEP_NUM_TASKS=4", "srun --mpi=pmix"]], [],
         ranks=(1,), environment={"SLURM_STEP_NUM_TASKS": "4"}),
    Case("another MPI's mpirun", USAGE, [["OMPI_COMM_WORLD_SIZE=4", "mpirun"]], [], ranks=(1,),
         environment={"OMPI_COMM_WORLD_SIZE": "4"}),
]

OUTPUT_CASES = [
    Case("another run is there", USAGE, [["run directory", "run", "config.toml", "--run-dir"]], [],
         files={"run": os.mkdir, "run/config.toml": ""}),
    Case("a file for the run directory", IO, [["run directory", "run", "not a folder"]], [],
         files={"run": ""}),
    Case("a full disk", IO, [["run/log.txt", "No space left"]], [],
         files={"run/log.txt": lambda path: os.symlink("/dev/full", path)}),
    Case("a file on the way to the run directory", IO, [["file/run", "Not a directory"]],
         ["--run-dir", "file/run"], files={"file": ""}),
    Case("no folder to save in", IO, [["nowhere/saved.h5", "No such file"]],
         ["--save-parameters", "nowhere/saved.h5"]),
    Case("a folder to save over", IO, [["saved.h5", "not a regular file"]],
         ["--save-parameters", "saved.h5"], files={"saved.h5": os.mkdir}),
    Case("no parameters to start from", IO, [["none.h5", "No such file"]],
         ["--init-from", "none.h5"]),
    Case("garbage to start from", BAD_DATA, [["bad.h5", "HDF5"]], ["--init-from", "bad.h5"],
         files={"bad.h5": "no HDF5\n" * 1000}),
    Case("a folder to start from", BAD_DATA, [["bad.h5", "folder"]], ["--init-from", "bad.h5"],
         files={"bad.h5": os.mkdir}),
]


def at_once(jobs):
    """Results of functions that mostly wait: mpirun takes its time to end after a failure."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


class BadInput(program.TestCase):
    whole = None

    def make_files(self, folder, files):
        folder.mkdir()
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            if callable(content):
                content(path)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    def run_case(self, case, ranks):
        folder = self.scratch / f"{case.name}, {ranks} ranks"
        self.make_files(folder, case.files)
        binary = self.whole if case.is_of_the_whole else self.program
        return program.run([*TINY, *case.flags], binary, ranks=ranks, mpirun=self.mpirun,
                           cwd=folder, changes=case.environment)

    def check(self, ended, status, lines, is_agreed=True):
        self.assertEqual(ended.status, status, ended.err)
        errors = [line for line in ended.err.splitlines() if line.startswith(ERROR)]
        self.assertEqual(len(errors), len(lines), ended.err)
        for error, words in zip(errors, lines):
            for word in words:
                self.assertIn(word, error)
        if is_agreed:
            self.assertNotIn("MPI_ABORT", ended.err)
        self.assertNotIn("terminate called", ended.err)
        self.assertEqual(ended.survivors, [])

    def try_cases(self, cases):
        jobs = [(case, ranks) for case in cases for ranks in case.ranks]
        results = at_once([functools.partial(self.run_case, *job) for job in jobs])
        for (case, ranks), ended in zip(jobs, results):
            with self.subTest(case.name, ranks=ranks):
                self.check(ended, case.status, case.lines)

    def test_corpus(self):
        self.try_cases(CORPUS_CASES)

    def test_the_advice_about_too_few_tokens_works(self):
        cases = [case for case in CORPUS_CASES if case.name.startswith("too few")]
        jobs = []
        for case in cases:
            advice = re.findall(r"(--[a-z-]+) to (\d+)", case.lines[0][-1])
            for flag, value in advice:
                jobs.append(dataclasses.replace(case, name=f"{case.name}, {flag}",
                                                flags=[*case.flags, flag, value]))
        self.assertEqual(len(jobs), 7)
        results = at_once([functools.partial(self.run_case, job, job.ranks[-1]) for job in jobs])
        for job, ended in zip(jobs, results):
            with self.subTest(job.name):
                self.assertEqual(ended.status, 0, ended.err)

    def test_names_give_a_terminal_no_orders_and_forge_no_line(self):
        """Escape, line feed, DEL and CSI of eight bits in a folder's name, wherever it is told."""
        forged = "ptb_dist: error: forged"
        name = f"r\x1b[31m\n{forged}\x7f\u009b1m\u00e4"
        folder = self.scratch / name
        run_dir, text = folder / "run", folder / "corpus"
        folder.mkdir()
        self.make_files(text, {file.rpartition("/")[2]: text for file, text in corpus(
            train="a b <unk> <eos>\n" * 200).items()})
        flags = [*TINY, "--run-dir", str(run_dir), "--data", str(text), "--save-parameters",
                 str(folder / "saved.h5")]
        file = str(run_dir / "checkpoints/g0000-step-00000002.h5")
        other = str(run_dir / "checkpoints/g0000-step-00000003.h5")
        for arguments, status in (
                ([*flags, "--dry-run"], 0), (["config", *flags], 0), (flags, 0), (flags, USAGE),
                ([*flags, "--resume", "auto", "--max-windows", "3"], 0),
                ([*flags, "--resume", file, "--max-windows", "3"], 0),  # sets the newer one aside
                ([*flags, "--fresh"], 0), ([*flags, "--resume", other], IO),
                (["eval", "--checkpoint", file, "--data", str(text)], 0),
                (["checkpoint", "verify", file], 0), (["checkpoint", "inspect", file], 0),
                (["checkpoint", "verify", file + "\n"], IO),
                (["--config", str(folder / "none.toml")], USAGE), (["--" + name], USAGE),
                (["--split", name], USAGE), (["eval", "--checkpoint", name, "--seed", name], USAGE),
                ([*TINY, "--data", str(folder)], BAD_DATA), ([*TINY, "--inject", name], USAGE)):
            with self.subTest(arguments=arguments[-4:]):
                ended = self.run_program(arguments)
                self.assertEqual(ended.status, status, ended.err)
                self.assert_harmless(ended.out + ended.err)
        for log in folder.rglob("log.txt"):
            self.assert_harmless(log.read_text())

    def assert_harmless(self, text):
        self.assertNotRegex(text, "[\x00-\x09\x0b-\x1f\x7f-\x9f]")
        self.assertNotIn("\nptb_dist: error: forged", text)

    def test_configuration(self):
        self.try_cases(CONFIGURATION_CASES)

    def test_tasks_that_do_not_know_each_other_say_so_once_and_before_mpi_begins(self):
        # Were MPI asked, it would end with its own words for this setting.
        step = {"SLURM_JOB_ID": "17", "SLURM_STEP_NUM_TASKS": "4", "OMPI_MCA_pml": "none_such"}
        for task, lines in (("0", [["SLURM_STEP_NUM_TASKS=4", "srun --mpi=pmix"]]), ("3", [])):
            ended = program.run(TINY, self.program, cwd=self.scratch,
                                changes={**step, "SLURM_PROCID": task})
            self.check(ended, USAGE, lines)
            self.assertEqual(len(ended.err.splitlines()), len(lines), ended.err)

    def test_a_batch_script_of_many_tasks_may_start_one_process(self):
        batch = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
        ended = program.run([*TINY, "--dry-run"], self.program, cwd=self.scratch, changes=batch)
        self.assertEqual(ended.status, 0, ended.err)

    def test_output(self):
        self.try_cases(OUTPUT_CASES)

    def test_parameters_of_another_model(self):
        saved = self.scratch / "saved.h5"
        self.train([*TINY, "--save-parameters", str(saved)])
        case = Case("of another model", BAD_DATA,
                    [["saved.h5:/parameters/embedding", "[20,4]", "[20,5]"]],
                    ["--init-from", str(saved), "--hidden-size", "5"])
        self.try_cases([case])

    def run_mutant(self, defect, flags, ranks):
        return program.run([*TINY, *flags], self.program.with_name("ptb_dist_mutant"), ranks=ranks,
                           mpirun=self.mpirun, cwd=self.scratch,
                           changes={"PTB_DIST_MUTANT": defect})

    def test_divergence(self):
        # A loss that is not finite takes a mutant: a huge learning rate only saturates the gates.
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                run_dir, saved = self.scratch / f"run{ranks}", self.scratch / f"saved{ranks}.h5"
                flags = ["--max-windows", "100", "--metrics-windows", "1", "--run-dir",
                         str(run_dir), "--save-parameters", str(saved)]
                self.check(self.run_mutant("not_finite", flags, ranks), DIVERGED,
                           [["diverged", "epoch 1, window 5, step 5", "loss nan", "norm",
                             "--learning-rate"]])
                log = (run_dir / "log.txt").read_text()
                self.assertRegex(log, "\n" + ERROR + ".*diverged.*\n$")
                windows = [record["window"] for record in program.records(run_dir, "window")]
                self.assertEqual(windows[:5], [0, 1, 2, 3, 4])
                self.assertFalse(saved.exists(), "weights of a diverged run were saved")

    def test_nothing_is_left_of_a_run_that_cannot_begin(self):
        for flags in (["--init-from", "none.h5"], ["--data", "nowhere"]):
            with self.subTest(" ".join(flags)):
                self.assertNotEqual(self.run_program([*TINY, *flags], ranks=2).status, 0)
                self.assertEqual([*self.scratch.iterdir()], [])

    def test_a_run_directory_that_could_not_take_what_is_saved_may_be_given_again(self):
        for target, status in (("rum/saved.h5", IO), ("run/saved.h5", 0)):
            ended = self.run_program([*TINY, "--save-parameters", target], ranks=2)
            self.assertEqual(ended.status, status, ended.err)
        self.assertTrue((self.scratch / "run/saved.h5").exists())

    def test_divergence_with_a_finite_loss(self):
        ended = program.run([*TINY, "--max-windows", "1000000", "--epochs", "1",
                             "--learning-rate", "1e12", "--max-grad-norm", "1e12"], self.program,
                            ranks=2, mpirun=self.mpirun, cwd=self.scratch)
        self.check(ended, DIVERGED, [["diverged", "validation perplexity inf"]])

    def test_a_backend_that_one_rank_lacks(self):
        ended = self.run_mutant("missing_on_rank_1", [], ranks=3)
        self.check(ended, MISSING, [[f"rank 1 ({socket.gethostname()}): no backend"]])

    def test_disk_that_fills_up_on_one_rank(self):
        """Only rank 0 knows, in the middle of training: it takes the other one with it."""
        # A file size limit of 4 KB stands for the disk. Messages go by TCP, because the limit would
        # also hit the file of MPI's shared memory.
        limited = self.scratch / "limited.sh"
        limited.write_text(f'#!/bin/sh\nulimit -f 8\nexec "{self.program}" "$@"\n')
        limited.chmod(0o755)
        run_dir = self.scratch / "run"
        ended = program.run([*TINY, "--max-windows", "1000", "--metrics-windows", "1", "--run-dir",
                             str(run_dir)], limited, ranks=2,
                            mpirun=self.mpirun + " --mca btl self,tcp")
        self.check(ended, IO, [["rank 0 (", "metrics.jsonl", "File too large"]], is_agreed=False)
        self.assertGreater(len(program.records(run_dir)), 5)  # all lines are whole


def begin(args):
    BadInput.whole = args.whole.resolve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--whole", type=pathlib.Path, required=True, help="the program with CUDA")
    program.run_tests(parser, begin)
