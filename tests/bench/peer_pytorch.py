#!/usr/bin/env python3
"""How fast PyTorch trains the same language models on a CPU: the figure to beat.

Model and mathematics are those of ptb_dist (src/README.md, "Numerics"), written as a PyTorch user
would for speed: nn.Embedding, nn.LSTM (on oneDNN), nn.Linear, cross-entropy summed over time and
averaged over lanes, clip_grad_norm_, plain SGD. Each variant runs in a process of its own:

    threads1     one process, one thread
    threads2     one process, two threads
    processes2   two processes of one thread and half the lanes, DistributedDataParallel over gloo

Run (needs torch and numpy; nothing else of this repository):

    python3 tests/bench/peer_pytorch.py --data DIR                     # three models, all variants
    python3 tests/bench/peer_pytorch.py --data DIR --config large --variant threads2
    python3 tests/bench/peer_pytorch.py --data DIR --precision bf16    # autocast

Expect a JSON line for every run, then a table of words/s. A figure is T*B over the median time of
the windows after the warm-up; a window is everything from the token ids to the updated weights.
Two Zen 4 cores, torch 2.15: small 5.7 k, medium 1.7 k, large 0.3 k with two threads in fp32.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

VARIANTS = {"threads1": (1, 1), "threads2": (1, 2), "processes2": (2, 1)}  # processes, threads


def define_model():
    """The class, behind a function so that the driver of the variants does not load torch."""
    from torch import nn

    class PeerModel(nn.Module):
        """nn.LSTM has two biases a layer; the second stays 0, or both would learn: twice the rate.

        Gate order of nn.LSTM: i f g o with g = our j.
        """

        def __init__(self, keys):
            super().__init__()
            self.hidden, self.layers = keys["hidden_size"], keys["num_layers"]
            rate = 1 - keys["keep_prob"]
            self.drop = nn.Dropout(rate) if rate > 0 else nn.Identity()
            self.embedding = nn.Embedding(keys["vocab_size"], self.hidden)
            between = rate if self.layers > 1 else 0.0
            self.lstm = nn.LSTM(self.hidden, self.hidden, self.layers, dropout=between)
            self.softmax = nn.Linear(self.hidden, keys["vocab_size"])
            for name, parameter in self.named_parameters():
                if "bias_" in name:
                    nn.init.zeros_(parameter)
                    parameter.requires_grad_("bias_hh" not in name)
                else:
                    nn.init.uniform_(parameter, -keys["init_scale"], keys["init_scale"])

        def zero_state(self, lanes):
            like = self.softmax.weight
            return tuple(like.new_zeros(self.layers, lanes, self.hidden) for _ in range(2))

        def forward(self, x, y, state):
            """x, y [T,B] -> cross-entropy summed over t, averaged over lanes; the next state."""
            outputs, state = self.lstm(self.drop(self.embedding(x)), state)
            logits = self.softmax(self.drop(outputs))  # [T,B,V]
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum")
            return loss / x.shape[1], tuple(s.detach() for s in state)

    return PeerModel


class Step:
    """One step of training: everything from the token ids to the updated weights."""

    def __init__(self, module, model, keys, device, is_bf16, drops_gradients=True):
        import torch

        self.torch, self.model = torch, model
        self.trained = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(self.trained, lr=keys["learning_rate"])
        self.max_norm = keys["max_grad_norm"]
        self.device, self.is_bf16, self.drops_gradients = device, is_bf16, drops_gradients

    def __call__(self, x, y, state):
        """The loss, and the next state."""
        torch = self.torch
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.is_bf16):
            loss, state = self.model(x, y, state)
        self.optimizer.zero_grad(set_to_none=self.drops_gradients)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.max_norm)
        self.optimizer.step()
        return loss, state


def train_windows(rank, processes, threads, port, args, keys):
    """Runs warm-up and timed windows; rank 0 prints the JSON line."""
    import torch
    from corpus import Corpus, Windows, find_data

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = module = define_model()(keys)
    if processes > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("gloo", rank=rank, world_size=processes)
        model = torch.nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)
        torch.manual_seed(1 + rank)  # masks differ between lanes
    # DistributedDataParallel averages gradients: equal shares, so the mean over lanes.
    step = Step(module, model, keys, "cpu", args.precision == "bf16", processes == 1)

    share = keys["batch_size"] // processes
    mine = slice(rank * share, (rank + 1) * share)
    state = module.zero_state(share)
    seconds, losses = [], []
    windows = Windows(Corpus(find_data(args.data)).train, keys["batch_size"], keys["num_steps"])
    for w in range(args.warm_up + args.windows):
        x, y = (torch.from_numpy(a[:, mine].copy()) for a in windows[w])
        start = time.perf_counter()
        loss, state = step(x, y, state)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    if processes > 1:
        torch.distributed.destroy_process_group()
    if rank == 0:
        words = keys["num_steps"] * keys["batch_size"]
        timed = seconds[args.warm_up:]
        print(json.dumps(dict(
            program="pytorch", version=torch.__version__, config=args.config, variant=args.variant,
            precision=args.precision, words_per_second=round(words / statistics.median(timed), 1),
            best_words_per_second=round(words / min(timed), 1), windows=len(timed),
            last_loss=round(losses[-1], 3))), flush=True)


def run_variant(args):
    """One variant, in this process and its children."""
    from corpus import CONFIGS

    processes, threads = VARIANTS[args.variant]
    if processes == 1:
        train_windows(0, 1, threads, 0, args, CONFIGS[args.config])
        return
    import torch.multiprocessing

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(
        train_windows, (processes, threads, port, args, CONFIGS[args.config]), processes)


def measure(python, data, config, variant, precision, windows, warm_up):
    """Starts one variant in a fresh interpreter and returns its JSON record."""
    command = [python, os.path.abspath(__file__), "--data", str(data), "--config", config,
               "--variant", variant, "--precision", precision, "--windows", str(windows),
               "--warm-up", str(warm_up)]
    threads = str(VARIANTS[variant][1])
    environment = dict(os.environ, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="folder of the PTB texts (else $PTB_DATA, data/ptb)")
    parser.add_argument("--config", default="small,medium,large", help="models, with commas")
    parser.add_argument("--variant", default=",".join(VARIANTS), help="variants, with commas")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--windows", type=int, default=10, help="timed windows")
    parser.add_argument("--warm-up", type=int, default=3, help="windows before the timed ones")
    return parser.parse_args()


def main():
    args = parse_arguments()
    configs, variants = args.config.split(","), args.variant.split(",")
    if len(configs) == len(variants) == 1:
        return run_variant(args)
    from corpus import find_data

    data, table = find_data(args.data), {}
    for config in configs:
        for variant in variants:
            record = measure(sys.executable, data, config, variant, args.precision, args.windows,
                             args.warm_up)
            print(json.dumps(record), flush=True)
            table[config, variant] = record["words_per_second"]
    print(f"\nwords/s, {args.precision}".ljust(24) + "".join(v.rjust(14) for v in variants))
    for config in configs:
        row = "".join(f"{table[config, v]:14,.0f}" for v in variants)
        print(config.ljust(23) + row)


if __name__ == "__main__":
    main()
