#!/usr/bin/python3
"""The README's example that exchanges models with PyTorch, run as it stands there.

    /usr/bin/python3 readme_example_test.py --program build/ptb_dist [unittest's arguments]

A stand-in takes the place of PyTorch: what the example needs of it is a state_dict() of arrays. What
PyTorch computes with such a state is written down here once more, from its documentation, so that a
wrong order of gates would be a wrong perplexity.
"""

import math
import pathlib
import re
import sys
import types

import numpy as np

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SOURCE / "tests/train"))
import program  # noqa: E402

H, L, FORGET_BIAS = 6, 2, 0.5
LINE = "a b a c a b <unk>\n"


def text(lines):
    return LINE * lines


class StandIn:
    """A model of PyTorch, as far as the example sees it."""

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


def torch():
    return types.SimpleNamespace(from_numpy=StandIn.Value)


def random_state(vocabulary):
    random = np.random.default_rng(1)
    shapes = {"embedding.weight": (vocabulary, H), "decoder.weight": (vocabulary, H),
              "decoder.bias": (vocabulary,)}
    for layer in range(L):
        shapes |= {f"lstm.weight_ih_l{layer}": (4 * H, H), f"lstm.weight_hh_l{layer}": (4 * H, H),
                   f"lstm.bias_ih_l{layer}": (4 * H,), f"lstm.bias_hh_l{layer}": (4 * H,)}
    return {name: random.uniform(-1, 1, shape).astype(np.float32)
            for name, shape in shapes.items()}


def perplexity(state, ids):
    """Of torch.nn.LSTM between Embedding and Linear, gates in the order i f g o."""
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))
    hidden, cell = np.zeros((L, H)), np.zeros((L, H))
    total = 0.0
    for word, target in zip(ids, ids[1:]):
        x = state["embedding.weight"][word].astype(float)
        for layer in range(L):
            z = (state[f"lstm.weight_ih_l{layer}"] @ x + state[f"lstm.bias_ih_l{layer}"] +
                 state[f"lstm.weight_hh_l{layer}"] @ hidden[layer] +
                 state[f"lstm.bias_hh_l{layer}"])
            i, f, g, o = np.split(z, 4)
            cell[layer] = sigmoid(f) * cell[layer] + sigmoid(i) * np.tanh(g)
            x = hidden[layer] = sigmoid(o) * np.tanh(cell[layer])
        logits = state["decoder.weight"] @ x + state["decoder.bias"]
        total += np.log(np.sum(np.exp(logits))) - logits[target]
    return math.exp(total / (len(ids) - 1))


def example():
    """The functions of the README's example, on the stand-in."""
    block, = re.findall(r"```python\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    sys.modules["torch"] = torch()
    names = {}
    exec(compile(block, "README.md", "exec"), names)  # our own text
    return names


class Example(program.TestCase):
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

    def test_there_and_back(self):
        names = example()
        model = StandIn(random_state(len(self.words)))
        names["write_parameters"](self.scratch / "start.h5", model, layers=L)
        told = self.told_by(*self.MODEL, "--init-from", "start.h5", "--epochs", "0")
        self.assertAlmostEqual(told / perplexity(model.state, self.test_ids), 1, delta=1e-4)

        self.told_by(*self.MODEL, "--init-from", "start.h5", "--epochs", "1", "--run-dir", "run",
                     "--forget-bias", str(FORGET_BIAS))
        best = self.scratch / "run/checkpoints/best.h5"
        names["read_parameters"](best, model, layers=L)
        told = self.told_by("eval", "--checkpoint", str(best))
        self.assertAlmostEqual(told / perplexity(model.state, self.test_ids), 1, delta=1e-4)

    def test_the_order_of_gates_matters(self):
        """Else the test above could not fail."""
        state = random_state(len(self.words))
        swapped = dict(state)
        for name in [name for name in state if name.startswith("lstm.")]:
            i, f, g, o = np.split(state[name], 4)
            swapped[name] = np.concatenate([i, g, f, o])
        self.assertGreater(abs(perplexity(swapped, self.test_ids) /
                               perplexity(state, self.test_ids) - 1), 1e-2)


if __name__ == "__main__":
    program.run_tests()
