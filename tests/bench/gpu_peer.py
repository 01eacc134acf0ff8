#!/usr/bin/env python3
"""How fast PyTorch and cuDNN train the same models on a GPU: what gpu.py asks, one line at a time.

Model and step are peer_pytorch.py's. Variants:

    eager_tf32, eager_bf16   as a PyTorch user would write it; TF32 products, or bf16 autocast
    graph_tf32, graph_bf16   the whole step (forward, backward, clip, SGD) captured once by hand in
                             a CUDA graph and replayed

Reads requests from the standard input, JSON objects with `model`, `keys`, `variant`, `windows` and
`warm_up`, and answers each with one line: the same object with `milliseconds` a window, or with
`why` there are none. One process for all of them: starting torch and its context takes seconds.
Measured kindly: all windows lie in device memory before the clock starts, and the host waits for
the device only before and after all of them, while ptb_dist's host reads every window's loss.

    echo '{"keys": {...}, "variant": "eager_tf32", "windows": 100, "warm_up": 10}' |
        python3 tests/bench/gpu_peer.py --data DIR            # or --data synthetic

The first line of the answer says which versions there are, or `why` it is of no use. --device cpu
is for a test of this file, without the graphs.
"""

import argparse
import gc
import json
import sys
import time

SYNTHETIC_TOKENS = 929_589  # as many as the Penn Treebank has to train on


def answer(record):
    print(json.dumps(record), flush=True)


class Peer:
    def __init__(self, data, device):
        import torch

        self.torch, self.data, self.device = torch, data, device
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("torch finds no GPU")
        torch.manual_seed(1)
        torch.set_float32_matmul_precision("high")  # TF32 in products; in cuDNN it is the default
        self.tokens = None

    def versions(self):
        torch = self.torch
        return dict(torch=torch.__version__, cuda=torch.version.cuda,
                    cudnn=torch.backends.cudnn.version(), device=self.device)

    def ids(self, keys):
        """Training tokens; drawn with p ~ 1/rank where there is no corpus."""
        from corpus import Corpus

        if self.data == "synthetic":
            weights = 1 / self.torch.arange(1, keys["vocab_size"] + 1, dtype=self.torch.double)
            count = keys.get("synthetic_tokens", SYNTHETIC_TOKENS)
            return self.torch.multinomial(weights, count, replacement=True).numpy()
        if self.tokens is None:
            self.tokens = Corpus(self.data).train
        return self.tokens

    def windows(self, keys, count):
        """x, y [T,B] of `count` windows in device memory, from the start again where they end."""
        from corpus import Windows

        windows = Windows(self.ids(keys), keys["batch_size"], keys["num_steps"])
        kept = [[self.torch.from_numpy(a).to(self.device) for a in windows[w]]
                for w in range(min(count, len(windows)))]
        return [kept[w % len(kept)] for w in range(count)]

    def eager(self, step, state):
        def advance(x, y):
            nonlocal state
            loss, state = step(x, y, state)
            return loss
        return advance

    def graph(self, step, state, x, y):
        """The captured step; it reads and writes the same memory in every replay."""
        cuda = self.torch.cuda
        x, y = x.clone(), y.clone()

        def advance_in_place():
            loss, after = step(x, y, state)
            for kept, new in zip(state, after):
                kept.copy_(new)
            return loss

        side = cuda.Stream()  # where PyTorch wants the windows before a capture
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(3):
                advance_in_place()
        cuda.current_stream().wait_stream(side)
        step.optimizer.zero_grad(set_to_none=True)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            loss = advance_in_place()

        def advance(new_x, new_y):
            x.copy_(new_x)
            y.copy_(new_y)
            graph.replay()
            return loss
        return advance

    def synchronize(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def measure(self, request):
        from peer_pytorch import Step, define_model

        keys = request["keys"]
        mode, precision = request["variant"].split("_")
        if mode == "graph" and self.device != "cuda":
            raise RuntimeError("graphs are CUDA's")
        module = define_model()(keys).to(self.device)
        step = Step(module, module, keys, self.device, precision == "bf16")
        state = module.zero_state(keys["batch_size"])
        windows = self.windows(keys, request["warm_up"] + request["windows"])
        advance = (self.eager(step, state) if mode == "eager"
                   else self.graph(step, state, *windows[0]))
        for x, y in windows[:request["warm_up"]]:
            advance(x, y)
        self.synchronize()
        start = time.perf_counter()
        for x, y in windows[request["warm_up"]:]:
            loss = advance(x, y)
        self.synchronize()
        seconds = time.perf_counter() - start
        return dict(milliseconds=1000 * seconds / request["windows"], last_loss=loss.item())

    def forget(self):
        gc.collect()
        if self.device == "cuda":
            self.torch.cuda.empty_cache()


def first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder of the PTB texts, or synthetic")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    args = parser.parse_args()
    try:
        peer = Peer(args.data, args.device)
        answer(peer.versions())
    except (ImportError, RuntimeError, OSError) as error:
        return answer(dict(why=first_line(error)))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            result = peer.measure(request)
        except Exception as error:  # whatever torch raises: the other variants go on
            result = dict(why=first_line(error))
        answer(dict(request, **result))
        peer.forget()


if __name__ == "__main__":
    main()
