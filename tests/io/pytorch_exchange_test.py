#!/usr/bin/python3
"""The exchange of models with PyTorch, for each cell.

    /usr/bin/python3 pytorch_exchange_test.py --program build/ptb_dist [unittest's arguments]

A stand-in replaces PyTorch: the exchange needs only a state_dict() of arrays. PyTorch's computation
with such a state is written here again, from its documentation, so that a wrong order of gates
gives a wrong perplexity.
"""

import math
import pathlib
import re
import sys
import types

import numpy as np

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SOURCE / "tests/program"))
import program  # noqa: E402

H, L, FORGET_BIAS = 6, 2, 0.5
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
LINE = "a b a c a b <unk>\n"


def text(lines):
    return LINE * lines


class StandIn:
    """A model of PyTorch, as far as the exchange sees it."""

    class Value:
        def __init__(self, array):
            self.array = array

        def numpy(self):
            return self.array

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return {name: self.Value(array) for name, array in self.state.items()}

    def load_state_dict(self, state):
        self.state = {name: value.array for name, value in state.items()}


sys.modules["torch"] = types.SimpleNamespace(from_numpy=StandIn.Value)
import pytorch_exchange  # noqa: E402


def random_state(cell, vocabulary):
    random = np.random.default_rng(1)
    rows = GATES[cell] * H
    shapes = {"embedding.weight": (vocabulary, H), "decoder.weight": (vocabulary, H),
              "decoder.bias": (vocabulary,)}
    for layer in range(L):
        shapes |= {f"{cell}.weight_ih_l{layer}": (rows, H), f"{cell}.weight_hh_l{layer}": (rows, H),
                   f"{cell}.bias_ih_l{layer}": (rows,), f"{cell}.bias_hh_l{layer}": (rows,)}
    return {name: random.uniform(-1, 1, shape).astype(np.float32)
            for name, shape in shapes.items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(cell, x, h, c):
    """h and c of the next step; x is the inputs' affine map, h the pair (state, its affine map)."""
    old_h, h = h
    if cell == "lstm":
        i, f, g, o = np.split(x + h, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if cell == "gru":
        (xr, xz, xn), (hr, hz, hn) = np.split(x, 3), np.split(h, 3)
        z = sigmoid(xz + hz)
        return (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * old_h, c
    return np.tanh(x + h), c


def perplexity(cell, state, ids):
    """Of torch.nn.LSTM, GRU or RNN between Embedding and Linear."""
    hidden, memory = np.zeros((L, H)), np.zeros((L, H))
    total = 0.0
    for word, target in zip(ids, ids[1:]):
        x = state["embedding.weight"][word].astype(float)
        for layer in range(L):
            of_x, of_h = (state[f"{cell}.weight_{part}_l{layer}"] @ value +
                          state[f"{cell}.bias_{part}_l{layer}"]
                          for part, value in (("ih", x), ("hh", hidden[layer])))
            hidden[layer], memory[layer] = step(cell, of_x, (hidden[layer], of_h), memory[layer])
            x = hidden[layer]
        logits = state["decoder.weight"] @ x + state["decoder.bias"]
        total += np.log(np.sum(np.exp(logits))) - logits[target]
    return math.exp(total / (len(ids) - 1))


class Exchange(program.TestCase):
    def setUp(self):
        super().setUp()
        for split, lines in (("train", 60), ("valid", 20), ("test", 20)):
            (self.scratch / f"ptb.{split}.txt").write_text(text(lines))
        counted = {"a": 3, "<eos>": 1, "b": 2, "c": 1, "<unk>": 1}
        self.words = sorted(counted, key=lambda word: (-counted[word], word.encode()))
        tokens = text(20).replace("\n", " <eos> ").split()
        self.test_ids = [self.words.index(token) for token in tokens]

    def told_by(self, *flags):
        ended = self.run_program([*flags, "--data", str(self.scratch), "--threads", "1"])
        self.assertEqual(ended.status, 0, ended.out + ended.err)
        return float(re.findall(r"Test Perplexity: ([\d.]+)", ended.out)[0] if "Test" in ended.out
                     else "nan")

    MODEL = ["--hidden-size", str(H), "--num-layers", str(L), "--vocab-size", "5", "--num-steps",
             "5", "--batch-size", "4", "--eval-lanes", "2"]

    def assert_near(self, told, expected):
        """The log has three decimals."""
        self.assertAlmostEqual(told, expected, delta=1e-4 * expected + 5e-4)

    def test_there_and_back(self):
        for cell in GATES:
            with self.subTest(cell):
                model = StandIn(random_state(cell, len(self.words)))
                flags = [*self.MODEL, "--cell", cell, "--init-from", f"{cell}.h5"]
                pytorch_exchange.write_parameters(self.scratch / f"{cell}.h5", model, cell, L)
                told = self.told_by(*flags, "--epochs", "0")
                self.assert_near(told, perplexity(cell, model.state, self.test_ids))

                self.told_by(*flags, "--epochs", "1", "--run-dir", cell, "--learning-rate", "0.1",
                             "--forget-bias", str(FORGET_BIAS))
                best = self.scratch / cell / "checkpoints/best.h5"
                pytorch_exchange.read_parameters(best, model, cell, L)
                told = self.told_by("eval", "--checkpoint", str(best))
                self.assert_near(told, perplexity(cell, model.state, self.test_ids))

    def test_the_order_of_gates_matters(self):
        """Else the test above could not fail."""
        for cell, order in (("lstm", (0, 2, 1, 3)), ("gru", (1, 0, 2))):
            state = random_state(cell, len(self.words))
            swapped = dict(state)
            for name in [name for name in state if name.startswith(f"{cell}.")]:
                parts = np.split(state[name], len(order))
                swapped[name] = np.concatenate([parts[i] for i in order])
            self.assertGreater(abs(perplexity(cell, swapped, self.test_ids) /
                                   perplexity(cell, state, self.test_ids) - 1), 1e-2)


if __name__ == "__main__":
    program.run_tests()
