"""What ran on a GPU in each phase of a step: reads ncu's list of kernels.

ptb_dist_gpu_phases --mark runs every phase once, behind a kernel that occurs nowhere else, and
prints their names; so the nth of these in the list is where the nth phase begins.
"""

import csv
import io
import os
import pathlib
import re
import shutil

MARK = "add_elements<double>"
OURS = "ptb::cuda"  # in the names of our kernels; all others are a library's
METRICS = {"gpu__time_duration.sum": "us", "dram__bytes_read.sum": "MB"}
# To microseconds, and to megabytes.
UNITS = {"ns": 1e-3, "nsecond": 1e-3, "us": 1, "usecond": 1, "ms": 1e3, "msecond": 1e3, "s": 1e6,
         "second": 1e6, "byte": 1e-6, "Kbyte": 1e-3, "Mbyte": 1, "Gbyte": 1e3}


def find(tool):
    """A program of the toolkit, or None."""
    folder = pathlib.Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda") / "bin"
    return shutil.which(tool) or shutil.which(tool, path=str(folder))


def command(ncu, log, program):
    return [ncu, "--target-processes", "all", "--clock-control", "none", "--csv", "--print-units",
            "base", "--metrics", ",".join(METRICS), "--log-file", log, *program]


def short(name):
    """Without the types of arguments, and without namespaces."""
    name = re.sub(r"^void |\(anonymous namespace\)::|<unnamed>::|[A-Za-z_]\w*::", "", name)
    return name.partition("(")[0].strip()


def launches(text):
    """[{name, us, MB}] in the order of their launches."""
    start = text.find('"ID"')
    found = {}
    for row in csv.DictReader(io.StringIO(text[start:] if start >= 0 else "")):
        metric = METRICS.get(row.get("Metric Name"))
        if metric and row.get("Metric Value"):
            kernel = found.setdefault(int(row["ID"]), dict(name=row["Kernel Name"]))
            kernel[metric] = (float(row["Metric Value"].replace(",", ""))
                              * UNITS.get(row["Metric Unit"], float("nan")))
    return [found[number] for number in sorted(found)]


def complaint(text):
    """Why the list is empty."""
    found = re.search(r"^==ERROR== *(.+)", text, re.M)
    return "ncu lists no kernel of any phase" + (f": {found[1].strip()}" if found else "")


def by_phase(text, phases):
    """A record for each kernel of each phase: phase, kernel, is_ours, launches, us, MB. What ran
    before the first phase, to set up, is left out."""
    names = iter(phases)
    phase, found = None, {}
    for kernel in launches(text):
        if MARK in kernel["name"]:
            phase = next(names, None)
        elif phase is not None:
            record = found.setdefault((phase, kernel["name"]), dict(
                phase=phase, kernel=short(kernel["name"]), is_ours=OURS in kernel["name"],
                launches=0, us=0.0, MB=0.0))
            record["launches"] += 1
            for metric in METRICS.values():
                record[metric] += kernel.get(metric, 0.0)
    return [dict(record, us=round(record["us"], 2), MB=round(record["MB"], 3))
            for record in found.values()]
