"""Tables in Markdown of the rows of gpu.py, with the bars beside the figures.

Medians are over the rounds, and ratios are medians of the rounds' ratios.
"""

import contextlib
import json
import statistics

PRECISIONS = ["fp32", "tf32", "bf16"]
PEERS = ["eager_tf32", "eager_bf16", "graph_tf32", "graph_bf16"]
# At 20 lanes: ours / PyTorch's with the same arithmetic.
RATIO_BARS = [("tf32", "eager_tf32", {"small": 5.0, "medium": 3.0, "large": 2.0}),
              ("bf16", "graph_bf16", {"small": 1.5, "medium": 1.5, "large": 1.5})]
# Test perplexity of a training in full: at most, or this and how near.
PERPLEXITY_BARS = {"small": (116.7, None), "medium": (82.07, 1.5), "large": (78.29, 1.5)}
# Validation perplexity: the time to reach it is told.
PUBLISHED_VALID = {"small": 122.3, "medium": 86.16, "large": 82.62}
FAST_BAR = {"large": (78.3, 200)}  # test perplexity within so many seconds, on an H200


def medians(rows):
    """(model, lanes, variant) -> {round: words/s}, for what follows from it."""
    found = {}
    for row in rows:
        if row["kind"] == "step":
            key = row["model"], row["lanes"], row["variant"]
            found.setdefault(key, {})[row["round"]] = row["words_per_second"]
    return found


def table(title, columns, lines):
    print(f"\n**{title}**\n\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for line in lines:
        print("| " + " | ".join(str(cell) for cell in line) + " |")


def step_tables(rows):
    speeds = medians(rows)
    if not speeds:
        return
    cases = list(dict.fromkeys((model, lanes) for model, lanes, _ in speeds))
    cases.sort(key=lambda case: case[1])  # by lanes; models stay in the order of the call
    titles = {v: f"ours {v}" for v in PRECISIONS} | {
        v: "PyTorch " + v.replace("_", " ") for v in PEERS}
    words = {(row["model"], row["lanes"]): row["milliseconds"] * row["words_per_second"] / 1000
             for row in rows if row["kind"] == "step"}

    def cells(case, form):
        for variant in titles:
            values = speeds.get((*case, variant))
            yield form(statistics.median(values.values()), case) if values else "-"

    table("Step, ms", ["model", "lanes", *titles.values()],
          [[*case, *cells(case, lambda speed, case: f"{1000 * words[case] / speed:.3f}")]
           for case in cases])
    table("Words/s", ["model", "lanes", *titles.values()],
          [[*case, *cells(case, lambda speed, case: f"{speed:,.0f}")] for case in cases])

    lines = []
    for case in cases:
        line = list(case)
        for ours, peers, bars in RATIO_BARS:
            a, b = speeds.get((*case, ours), {}), speeds.get((*case, peers), {})
            ratios = [a[turn] / b[turn] for turn in a.keys() & b.keys()]
            bar = bars.get(case[0]) if case[1] == 20 else None
            line += [f"{statistics.median(ratios):.2f}" if ratios else "-",
                     verdict(ratios and statistics.median(ratios) >= bar, f">= {bar}", ratios)
                     if bar else ""]
        lines.append(line)
    table("Ratios, ours / PyTorch", ["model", "lanes", "tf32 / eager tf32", "bar",
                                     "bf16 / graph bf16", "bar"], lines)


def verdict(is_met, bar, is_measured=True):
    return f"{bar}: " + ("unmeasured" if not is_measured else "met" if is_met else "missed")


def column_of(row):
    return row["model"], row["lanes"], row["precision"], row.get("overlap", "")


def phase_table(rows):
    """A row a phase, a column a model, precision and overlap."""
    columns = list(dict.fromkeys(map(column_of, rows)))
    found = {(row["phase"], column_of(row)): row["milliseconds"] for row in rows}
    if rows:
        table("Phases of a step of ours, each alone, ms",
              ["phase", *(" ".join(map(str, column)).strip() for column in columns)],
              [[phase, *(f"{found[phase, column]:.4f}" if (phase, column) in found else "-"
                         for column in columns)]
               for phase in dict.fromkeys(row["phase"] for row in rows)])


def product_tables(rows):
    """For each model a row a product and stride, and for each precision: alone / two at once."""
    found = {}
    for row in rows:
        if row["kind"] == "product":
            line = row["product"], f"{row['m']}, {row['n']}, {row['k']}", row["strides"]
            found.setdefault(row["model"], {}).setdefault(line, {})[row["precision"]] = (
                f"{row['us']:g} / {row['us_of_two']:g}")
    for model, lines in found.items():
        table(f"Products of {model}, us: alone / of two on two streams",
              ["product", "m, n, k", "strides", *PRECISIONS],
              [[*line, *(cells.get(precision, "-") for precision in PRECISIONS)]
               for line, cells in lines.items()])


def kernel_table(rows):
    rows = [row for row in rows if row["kind"] == "kernel"]
    if rows:
        table("Kernels of a step as ncu saw them, each alone with cold caches",
              ["model", "lanes", "precision", "phase", "kernel", "whose", "launches", "us",
               "MB read"],
              [[*(row[key] for key in ("model", "lanes", "precision", "phase", "kernel")),
                "ours" if row["is_ours"] else "library", row["launches"], f"{row['us']:.1f}",
                f"{row['MB']:.1f}"] for row in rows])


def suite_table(rows):
    rows = [row for row in rows if row["kind"] == "suite"]
    if rows:
        table("GPU suite", ["test", "verdict", "after"],
              [[row["test"], row["verdict"], row["why"]] for row in rows])


def clocks_table(rows):
    def spread(values):
        return " / ".join(f"{value:g}" for value in values) if values else "-"

    rows = [row for row in rows if row["kind"] == "clocks"]
    if rows:
        table("While GPUs worked: least / median / most of the samples", 
              ["case", "GPU", "samples", "SM, MHz", "memory, MHz", "W", "°C",
               "slowed down by, samples"],
              [[row["case"], row["gpu"], row["busy"],
                *(spread(row[key]) for key in ("sm_clock", "memory_clock", "power",
                                               "temperature")),
                ", ".join(f"{why}: {count}" for why, count in row["slowed"].items()) or "-"]
               for row in rows])


def train_bars(row):
    """(bar, whether it is met) of a training."""
    if row["flags"] or row["data"] == "synthetic":
        return  # another run than the bars are for
    if row["model"] in PERPLEXITY_BARS:
        bar, near = PERPLEXITY_BARS[row["model"]]
        if near is None:
            yield f"test <= {bar}", row["test"] <= bar
        else:
            yield f"test {bar} ± {near}", abs(row["test"] - bar) <= near
    if row["model"] in FAST_BAR:
        bar, seconds = FAST_BAR[row["model"]]
        # The epochs' time is what remains known of a training in several calls.
        took = row["epoch_seconds"] if row["is_resumed"] else row["seconds"]
        yield (f"test <= {bar} in <= {seconds} s on an H200",
               row["test"] <= bar and took <= seconds)


def train_table(rows):
    lines = []
    for row in rows:
        if row["kind"] == "train":
            bars = "; ".join(verdict(is_met, bar) for bar, is_met in train_bars(row))
            published = row["seconds_to_published"]
            lines.append([row["model"], row["precision"], row["seed"], row["ranks"], row["epochs"],
                          *(f"{row[split]:.2f}" for split in ("train", "valid", "test")),
                          f"{row['seconds']:.0f}" + " (last call)" * row["is_resumed"],
                          f"{row['epoch_seconds']:.0f}",
                          "-" if published is None else f"{published:.0f}",
                          "yes" if row["has_checkpoints"] else "no", bars or "-"])
    if lines:
        table("Trainings in full", ["model", "precision", "seed", "ranks", "epochs", "train",
                                    "valid", "test", "seconds, all", "seconds of epochs",
                                    "seconds to the published validation perplexity",
                                    "checkpoints", "bars"],
              lines)


def lanes_of_a_rank(lanes, ranks):
    """Of the rank that has most."""
    return -(-lanes // ranks)


def waiting_share(row, alone):
    """The share of a step of several ranks that a single rank with as many lanes does not need in
    the same round: sums, waiting, and the rows of the other ranks' words. None if that single rank
    was not measured. `alone`: (model, precision, lanes, round) -> milliseconds of one rank."""
    lanes = lanes_of_a_rank(row["lanes"], row["ranks"])
    milliseconds = alone.get((row["model"], row["precision"], lanes, row["round"]))
    if row["ranks"] == 1 or milliseconds is None:
        return None
    return 1 - milliseconds / row["milliseconds"]


def scaling_table(rows):
    rows = [row for row in rows if row["kind"] == "scaling"]
    alone = {(row["model"], row["precision"], row["lanes"], row["round"]): row["milliseconds"]
             for row in rows if row["ranks"] == 1}
    found = {}
    for row in rows:
        if row["mode"] != "alone":
            batch = row["lanes"] // row["ranks"] if row["mode"] == "weak" else row["lanes"]
            key = row["model"], row["precision"], row["mode"], batch
            found.setdefault(key, {}).setdefault(row["ranks"], []).append(row)
    lines = []
    for key, by_ranks in found.items():
        speeds = {ranks: statistics.median(row["words_per_second"] for row in group)
                  for ranks, group in by_ranks.items()}
        for ranks, group in sorted(by_ranks.items()):
            step = statistics.median(row["milliseconds"] for row in group)
            efficiency = (f"{100 * speeds[ranks] / speeds[1] / ranks:.0f} %" if 1 in speeds
                          else "-")
            shares = [share for row in group if (share := waiting_share(row, alone)) is not None]
            lines.append([*key[:3], group[0]["lanes"], ranks, f"{step:.3f}",
                          f"{speeds[ranks]:,.0f}", efficiency,
                          f"{100 * statistics.median(shares):.0f} %" if shares else "-",
                          f"{group[0]['wire_bytes'] / 1e6:.1f}"])
    if lines:
        table("Scaling; sums and waiting: 1 - step of one rank with the lanes of one of P / step",
              ["model", "precision", "batch", "lanes", "ranks", "step, ms", "words/s",
               "of 1 rank's, a rank", "sums and waiting", "MB sent a rank (derived)"], lines)


def tables(rows):
    for row in rows:
        if row["kind"] == "machine":
            print("- " + ", ".join(f"{key}: {value}" for key, value in row.items()
                                   if key not in ("kind", "gpus")))
    floors = [row for row in rows if row["kind"] == "floor"]
    if floors:
        table("Floors of this chip", ["floor", "value", "what"],
              [[row["floor"], f"{row['value']:g} {row['unit']}", row["what"]] for row in floors])
    suite_table(rows)
    step_tables(rows)
    product_tables(rows)
    phase_table([row for row in rows if row["kind"] == "phase"])
    kernel_table(rows)
    train_table(rows)
    scaling_table(rows)
    clocks_table(rows)
    notes = [row["text"] for row in rows if row["kind"] == "note"]
    if notes:
        print("\nNot measured, and why:\n" + "\n".join(f"- {text}" for text in notes))


def read_rows(file):
    """A kill may have left a line that is not whole."""
    rows = []
    for line in file.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def all_tables(rows):
    """Those of several calls, each of which begins with its machine."""
    calls = []
    for row in rows:
        if not calls or "command" in row:
            calls.append([])
        calls[-1].append(row)
    for call in calls:
        tables(call)
