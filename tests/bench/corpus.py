"""The Penn Treebank as ptb_dist reads it, for the PyTorch scripts beside this file.

Written independently of the C++ reader, so that the two check each other.
Alphabet: T = num_steps, B = batch_size (lanes), L = num_layers, H = hidden_size, V = vocab_size.
"""

import collections
import os
import pathlib

# The model's keys; the table of the paper as the tutorial configures it.
CONFIGS = {
    "small": dict(init_scale=0.1, learning_rate=1.0, max_grad_norm=5.0, num_layers=2, num_steps=20,
                  hidden_size=200, max_epoch=4, max_max_epoch=13, keep_prob=1.0, lr_decay=0.5,
                  batch_size=20, vocab_size=10000),
    "medium": dict(init_scale=0.05, learning_rate=1.0, max_grad_norm=5.0, num_layers=2,
                   num_steps=35, hidden_size=650, max_epoch=6, max_max_epoch=39, keep_prob=0.5,
                   lr_decay=0.8, batch_size=20, vocab_size=10000),
    "large": dict(init_scale=0.04, learning_rate=1.0, max_grad_norm=10.0, num_layers=2,
                  num_steps=35, hidden_size=1500, max_epoch=14, max_max_epoch=55, keep_prob=0.35,
                  lr_decay=1 / 1.15, batch_size=20, vocab_size=10000),
}
EVAL_LANES = 20


def find_data(argument):
    """The folder with ptb.{train,valid,test}.txt: --data, $PTB_DATA, data/ptb."""
    folder = pathlib.Path(argument or os.environ.get("PTB_DATA") or "data/ptb")
    if not (folder / "ptb.train.txt").is_file():
        raise SystemExit(f"no ptb.train.txt in {folder}; give --data DIR or set PTB_DATA")
    return folder.resolve()


def read_tokens(path):
    """A newline is the token <eos>; tokens are split at ASCII white space."""
    return path.read_bytes().replace(b"\n", b" <eos> ").split()


class Corpus:
    """Token ids of the three splits. The id is the place by descending count, ties by bytes."""

    def __init__(self, folder):
        import numpy  # here, since who reads only CONFIGS may have none

        tokens = {s: read_tokens(folder / f"ptb.{s}.txt") for s in ("train", "valid", "test")}
        counts = collections.Counter(tokens["train"])
        words = sorted(counts, key=lambda word: (-counts[word], word))
        id_of = {word: i for i, word in enumerate(words)}
        unknown = id_of.get(b"<unk>")
        self.words = words
        for split, text in tokens.items():
            ids = [id_of.get(word, unknown) for word in text]
            setattr(self, split, numpy.array(ids, dtype=numpy.int64))


class Windows:
    """Windows of T steps over B contiguous lanes; window w gives x, y [T,B], y[t] = x[t+1]."""

    def __init__(self, ids, lanes, num_steps):
        length = len(ids) // lanes
        self.lanes = ids[: lanes * length].reshape(lanes, length)  # [B,n]
        self.num_steps = num_steps

    def __len__(self):
        return (self.lanes.shape[1] - 1) // self.num_steps

    def __getitem__(self, w):
        if w >= len(self):
            raise IndexError(w)
        begin, end = w * self.num_steps, (w + 1) * self.num_steps
        return self.lanes[:, begin:end].T.copy(), self.lanes[:, begin + 1:end + 1].T.copy()


def learning_rate(keys, epoch):
    """lr * lr_decay^max(epoch + 1 - max_epoch, 0), epoch from 0."""
    return keys["learning_rate"] * keys["lr_decay"] ** max(epoch + 1 - keys["max_epoch"], 0)


def flop_per_word(keys):
    """Matrix products, forward and backward: 6 FLOP for every weight of a product."""
    h = keys["hidden_size"]
    return 6 * (keys["num_layers"] * 2 * h * 4 * h + h * keys["vocab_size"])
