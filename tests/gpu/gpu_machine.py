"""What figures of a GPU were measured with: its card and driver, and how fast and hot it ran.

    machine()                a dictionary for JSON: every GPU of this host, or why none is known
    line(machine())          the same for a reader, in one line
    with Sampler() as sampler:
        ...                  what is measured
        sampler.summary()    clocks and power since the last call of it, for JSON: an item a GPU

All figures come from nvidia-smi, which shows every GPU of the host, independent of
CUDA_VISIBLE_DEVICES. If it is missing or does not answer, a reason replaces the figures; this is
never an error.
Python's standard library alone: it is part of a bundle (launch/bundle.sh --tests).
"""

import contextlib
import os
import subprocess
import threading

PERIOD = 0.5  # seconds between two samples
PATIENCE = 20  # seconds that nvidia-smi may take; on a GPU that has failed it takes for ever
# What does not change, by its name in JSON. Clocks in MHz, memory in MiB, power in W.
CARD = {"name": "name", "uuid": "uuid", "driver": "driver_version", "memory": "memory.total",
        "sm_clock": "clocks.max.sm", "memory_clock": "clocks.max.memory",
        "power_limit": "power.limit", "compute_mode": "compute_mode", "mig": "mig.mode.current"}
SAMPLE = ("index", "utilization.gpu", "clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")
# Why a GPU runs below the clock that it was set to: a mask, which older drivers call otherwise.
REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
SLOWED = {0x4: "power cap", 0x8: "hardware slowdown", 0x20: "heat", 0x40: "heat (hardware)",
          0x80: "power brake"}


def command(fields, *more):
    return ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits", *more]


def query(fields):
    """(what nvidia-smi says of each GPU, None) or ([], why it says nothing)"""
    try:
        process = subprocess.Popen(command(fields), text=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines = process.communicate(timeout=PATIENCE)[0].strip().splitlines()
    except OSError as error:
        return [], f"nvidia-smi: {error.strerror}"
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)  # longer only if the kernel holds it
        return [], f"nvidia-smi: no answer in {PATIENCE} s"
    if process.returncode != 0:
        return [], f"nvidia-smi: {(lines or ['no output'])[-1]}"
    return [values_of(line, fields) for line in lines], None


def values_of(line, fields):
    """By field; numbers where they are, None where the card has no such thing."""
    return dict(zip(fields, map(value_of, line.split(","))))


def value_of(text):
    text = text.strip()
    if text.startswith("[") or text == "N/A":
        return None  # [N/A], [Not Supported], [Unknown Error]
    with contextlib.suppress(ValueError):
        return int(text, 0)  # the masks are hexadecimal
    with contextlib.suppress(ValueError):
        return float(text)
    return text


def machine():
    cards, why = query(tuple(CARD.values()))
    gpus = [{name: card.get(field) for name, field in CARD.items()} for card in cards]
    found = dict(gpus=gpus, cpus=len(os.sched_getaffinity(0)))
    if why:
        found["why"] = why
    return found


def line(machine):
    """"2 x NVIDIA H200 (driver 580.65, 143771 MiB, up to 1980 MHz, 700 W)" """
    alike = {}
    for gpu in machine["gpus"]:
        text = (f"{gpu['name']} (driver {gpu['driver']}, {number(gpu['memory'])} MiB, up to "
                f"{number(gpu['sm_clock'])} MHz, {number(gpu['power_limit'])} W)")
        alike[text] = alike.get(text, 0) + 1
    texts = [text if count == 1 else f"{count} x {text}" for text, count in alike.items()]
    return "; ".join(texts) or f"no GPU known: {machine.get('why', 'nvidia-smi shows none')}"


def number(value):
    return "unknown" if value is None else f"{value:.0f}"


class Sampler:
    """Asks nvidia-smi again and again in a process beside, from the beginning of a `with` block to
    its end."""

    def __init__(self, period=PERIOD):
        self.period, self.process, self.thread, self.samples = period, None, None, []

    def __enter__(self):
        if not query(SAMPLE)[0]:
            return self  # and there are no samples
        known = [reason for reason in REASONS if query((reason,))[0]]
        fields = (*SAMPLE, *known[:1])
        self.process = subprocess.Popen(
            command(fields, f"--loop-ms={round(1000 * self.period)}"), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.thread = threading.Thread(target=self.read, args=(fields,), daemon=True)
        self.thread.start()
        return self

    def read(self, fields):
        for text in self.process.stdout:
            sample = values_of(text, fields)
            if len(sample) == len(fields):  # and no complaint
                self.samples.append(sample)

    def __exit__(self, *_):
        if self.process is None:
            return
        self.process.kill()
        self.thread.join(1)  # a process that the kernel holds does not end
        if not self.thread.is_alive():
            self.process.wait()
            self.process.stdout.close()

    def summary(self):
        samples, self.samples = self.samples, []
        by_gpu = {}
        for sample in samples:
            by_gpu.setdefault(sample["index"], []).append(sample)
        return [dict(gpu=index, **summary(own)) for index, own in by_gpu.items()]


def summary(samples):
    """Of one GPU: how many samples there are, and in how many it worked; of those [least, median,
    most] of clocks in MHz, power in W and temperature in °C, and how many found it slowed down, by
    the reason."""
    # Of a part of a GPU (MIG) nobody says how busy it is.
    busy = [sample for sample in samples if sample["utilization.gpu"] != 0]
    masks = [sample[reason] for sample in busy for reason in REASONS if sample.get(reason)]
    slowed = {name: sum(1 for mask in masks if mask & bit) for bit, name in SLOWED.items()}
    return dict(samples=len(samples), busy=len(busy), sm_clock=spread(busy, "clocks.sm"),
                memory_clock=spread(busy, "clocks.mem"), power=spread(busy, "power.draw"),
                temperature=spread(busy, "temperature.gpu"),
                slowed={name: count for name, count in slowed.items() if count > 0})


def spread(samples, field):
    values = sorted(sample[field] for sample in samples if sample[field] is not None)
    return [values[0], values[len(values) // 2], values[-1]] if values else None
