"""The first calls on a GPU: gpu.sh first, train and tools, each whole in nine minutes.

A call is a list of cases, the most valuable first. Each has a limit, and whatever fails, hangs or
finds no time left becomes a note, and the next case runs. What a case has measured is in the folder
before the next one begins:

    rows.jsonl    every row (gpu_measure.py says of which kinds)
    tables.md     the tables of all rows; written anew after each case
    log.txt       what each case was, how long it took, and what programs said that failed
    suite.txt     the output of the GPU suite's tests
    metrics.zip   metrics.jsonl of trainings
    kernels.zip   ncu's lists of kernels

Further calls with the same folder add to it. No file grows beyond MOST_BYTES.
"""

import contextlib
import io
import pathlib
import tempfile
import time
import traceback
import zipfile

import gpu_kernels
import gpu_process
import gpu_suite
from gpu_measure import (CASE_SECONDS, MOST_BYTES, Peer, add_clocks, json_lines, measure_floors,
                         measure_phases, measure_rounds, model_flags, phases_flags, read_metrics,
                         tool, training_row)
from gpu_process import Missing
from gpu_tables import PUBLISHED_VALID, all_tables, read_rows
from speed import environment

MOST_OF_A_TEST = 200_000  # characters of its output, the end


class Folder:
    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.rows = path / "rows.jsonl"

    def append(self, name, text):
        file = self.path / name
        with file.open("a") as out:
            if out.tell() + len(text.encode()) < MOST_BYTES:
                out.write(text)

    def replace(self, name, data):
        part = self.path / f".{name}.part"
        part.write_bytes(data)
        part.replace(self.path / name)

    def pack(self, name, member, data):
        """Puts `member` into the archive; one of that name that is there keeps it. Missing, and the
        archive is as it was, where that is full."""
        image = io.BytesIO()
        with zipfile.ZipFile(image, "w", zipfile.ZIP_DEFLATED) as new:
            if (self.path / name).is_file():
                with zipfile.ZipFile(self.path / name) as old:
                    for known in old.namelist():
                        new.writestr(known, old.read(known))
            while member in new.namelist():
                member = "again-" + member
            new.writestr(member, data)
        if image.tell() > MOST_BYTES:
            raise Missing(f"{member} has no room in {name}")
        self.replace(name, image.getvalue())

    def write_tables(self):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            all_tables(read_rows(self.rows))
        self.replace("tables.md", text.getvalue().encode()[:MOST_BYTES])


class Session:
    def __init__(self, args, rows, budget, folder, sampler):
        self.args, self.rows, self.budget, self.folder = args, rows, budget, folder
        self.sampler = sampler
        self.peer = Peer(args)

    def do(self, name, case, *arguments, **more):
        """A case; nothing that goes wrong in it keeps the next one from running."""
        start = time.monotonic()
        try:
            case(*arguments, **more)
        except Missing as reason:
            self.rows.note(f"{name}: not measured: {reason}")
        except Exception as error:  # a defect of these scripts, or output that nobody foresaw
            self.rows.note(f"{name}: not measured: {type(error).__name__}: {error}")
            self.folder.append("log.txt", traceback.format_exc())
        add_clocks(self.rows, self.sampler, name)
        with contextlib.suppress(Exception):  # the rows are what counts
            self.folder.append("log.txt", f"{time.monotonic() - start:8.1f} s  {name}\n")
            self.folder.write_tables()

    def run(self, command, seconds):
        """Ended; what a failed program said is in the log."""
        ended = gpu_process.run_to_end(command, self.budget.limit(seconds), environment())
        if ended.status != 0:
            self.folder.append("log.txt", f"{command}\nexit status {ended.status}\n"
                               f"{ended.out[-MOST_OF_A_TEST:]}{ended.err[-MOST_OF_A_TEST:]}\n")
        return ended

    def pack(self, name, member, data):
        """What has no room is no reason to lose the rest of a case."""
        try:
            self.folder.pack(name, member, data)
        except Missing as reason:
            self.rows.note(str(reason))

    # --- cases ---

    def program(self, *flags):
        """One of ptb_dist's answers, for the log."""
        ended = self.run([self.args.program, *flags], 20)
        if ended.status != 0:
            raise Missing(why(ended))
        self.folder.append("log.txt", ended.out)

    def suite(self, name, seconds):
        """A test of the GPU suite, with one run of each kind. A skipped one has failed: a GPU is at
        hand."""
        test = gpu_suite.tests(self.args.suite, self.args.build).get(name)
        if test is None:
            raise Missing("the suite has no such test")
        verdict, reason, out = gpu_suite.run(
            test, self.budget.limit(seconds), gpu_process.GRACE, PTB_DIST_TEST_QUICK="1",
            PTB_DIST_REQUIRE="gpu")
        self.folder.append("suite.txt", f"=== {verdict} {name}: {reason}\n"
                           f"{out[-MOST_OF_A_TEST:]}\n")
        self.rows.add("suite", test=name, verdict=verdict, why=reason)

    def floors(self, what, *flags, seconds=30):
        measure_floors(self.args, self.rows, self.budget, what, flags, seconds)

    def phases(self, model, lanes, precision, *overlap):
        measure_phases(self.args, self.rows, self.budget, model, lanes, precision, overlap)

    def rounds(self, *turns):
        measure_rounds(self.args, self.rows, self.budget, self.peer, turns)

    def kernels(self, model, precision, lanes=20):
        ncu = gpu_kernels.find("ncu")
        if ncu is None:
            raise Missing("ncu is neither in PATH nor in the toolkit")
        flags, _ = phases_flags(self.args, model, lanes, precision)
        with tempfile.TemporaryDirectory(prefix="ptb_dist_gpu_") as scratch, \
                self.budget.hang_counts("ncu"):
            log = pathlib.Path(scratch, "kernels.csv")
            program = [tool(self.args, "phases"), *flags, "--mark"]
            ended = self.run(gpu_kernels.command(ncu, log, program), CASE_SECONDS)
            text = log.read_text(errors="replace") if log.is_file() else ""
            self.pack("kernels.zip", f"{model}_{lanes}_{precision}.csv", text)
            phases = [row["phase"] for row in json_lines(ended.out) if row["kind"] == "mark"]
            found = gpu_kernels.by_phase(text, phases)
            for record in found:
                self.rows.add("kernel", model=model, lanes=lanes, precision=precision, **record)
            if ended.status != 0:
                raise Missing(why(ended), is_hang=ended.status is None)
            if not found:  # who may not read its counters lets the program run nevertheless
                raise Missing(gpu_kernels.complaint(text))

    def training(self, model, precision, seconds):
        """In full, from the beginning, without checkpoints: they are not what is measured here."""
        with tempfile.TemporaryDirectory(prefix="ptb_dist_gpu_",
                                         dir=gpu_process.memory_folder()) as scratch:
            run_dir = pathlib.Path(scratch, "run")
            seed = ["--seed", str(self.args.seed)]
            ended = self.run([self.args.program, *model_flags(self.args, model), "--precision",
                              precision, *seed, "--keep-checkpoints", "0", "--run-dir", run_dir,
                              *self.args.flags], seconds)
            metrics = run_dir / "metrics.jsonl"
            if metrics.is_file():
                self.pack("metrics.zip", f"{model}_{precision}_seed{self.args.seed}.jsonl",
                          metrics.read_bytes())
            if ended.status != 0:
                done = sum(record["kind"] == "epoch" and record["split"] == "valid"
                           for record in read_metrics(run_dir))
                raise Missing(f"{why(ended)}; {done} epochs were done")
            training_row(self.args, self.rows, run_dir, ended.seconds, PUBLISHED_VALID.get(model),
                         model=model, precision=precision, seed=self.args.seed, ranks=1,
                         flags=self.args.flags, is_resumed=False, has_checkpoints=False)


def why(ended):
    if ended.status is None:
        return f"stopped after {ended.seconds:.1f} s"
    return f"exit status {ended.status}: {gpu_process.last_line(ended.err or ended.out)}"


def fast_precisions(args):
    """Those that the bars are for."""
    return [precision for precision in ("bf16", "tf32") if precision in args.precisions]


# --- the calls ----------------------------------------------------------------------------------

def first(session):
    """Does it run, how fast, and why."""
    args, do = session.args, session.do
    models = args.models
    args.lanes = [min(args.lanes)]
    do("version", session.program, "--version")
    for precision in args.precisions:
        do(f"dry run {precision}", session.program, *model_flags(args, models[-1]), "--precision",
           precision, "--dry-run")
    do("operations", session.suite, "gpu_operations", 60)
    do("model", session.suite, "gpu_model", 60)
    for what in ("chip", "chain", "graphs"):
        do(f"floors {what}", session.floors, what)
    do("steps, first round", session.rounds, 0)
    for model in reversed(models):
        for precision in args.precisions:
            do(f"phases {model} {precision}", session.phases, model, args.lanes[0], precision)
    for model in reversed(models):
        flags = [] if args.tiny else ["--models", model, "--seconds", "0.1"]
        do(f"products {model}", session.floors, "products", *flags, seconds=40)
    for what in ("read", "barrier"):
        do(f"floors {what}", session.floors, what)
    for model in dict.fromkeys((models[-1], models[0])):
        for precision in fast_precisions(args):
            do(f"kernels {model} {precision}", session.kernels, model, precision, args.lanes[0])
    do("trainer", session.suite, "gpu_trainer", 150)
    do("steps, second round", session.rounds, 1)


def trainings(session):
    """The models in full."""
    if session.args.tiny:
        cases = [("tiny", "tf32", 60)]
    else:
        cases = [("small", "tf32", 90), ("large", "bf16", 330), ("medium", "tf32", 240)]
    for model, precision, seconds in cases:
        session.do(f"training {model} {precision}", session.training, model, precision, seconds)


def tools(session):
    """Several ranks, the toolkit's checks, more lanes, other overlaps."""
    args, do = session.args, session.do
    do("ranks on one GPU", session.suite, "gpu_ranks", 180)
    do("memcheck", session.suite, "gpu_memcheck", 90)
    do("racecheck", session.suite, "gpu_racecheck", 90)
    variants = [["--piece", "0"], ["--piece", "10"], ["--queues", "2"], ["--queues", "1"]]
    for model in reversed(args.models):
        for precision in fast_precisions(args):
            for overlap in ([], *variants):
                do(f"phases {model} {precision} {' '.join(overlap)}", session.phases, model,
                   min(args.lanes), precision, *overlap)
    args.lanes = [lanes for lanes in args.lanes if lanes != min(args.lanes)]
    do("steps of more lanes", session.rounds, 0)
    do("initcheck", session.suite, "gpu_initcheck", 60)
    do("synccheck", session.suite, "gpu_synccheck", 60)


CALLS = {"first": first, "train": trainings, "tools": tools}


def run(args, rows, budget, folder, sampler):
    """The exit status: 1 where a note or a test says that something is missing."""
    session = Session(args, rows, budget, folder, sampler)
    with contextlib.closing(session.peer):
        CALLS[args.command](session)
    return int(any(row["kind"] == "note" or row.get("verdict", "passed") != "passed"
                   for row in rows.rows))
