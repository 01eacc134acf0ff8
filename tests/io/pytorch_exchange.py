"""Models from PyTorch to ptb_dist and back, through HDF5 files of parameters.

Copy it, or import it; h5py, numpy and torch are needed. The model has the members `embedding`
(torch.nn.Embedding), `decoder` (torch.nn.Linear), and `lstm` (torch.nn.LSTM), `gru` (torch.nn.GRU)
or `rnn` (torch.nn.RNN), whose name is the cell's. Then

    write_parameters("start.h5", model, "lstm", layers=2)      # ptb_dist --init-from start.h5
    read_parameters("runs/a/checkpoints/best.h5", model, "lstm", layers=2)
"""

import h5py
import numpy as np
import torch

# Where ptb_dist's gates are among PyTorch's, and the other way: an LSTM has i f g o there and
# i j f o here, where j is g. The order of a GRU, r z n, is the same.
ORDER = {"lstm": (0, 2, 1, 3), "gru": (0, 1, 2), "rnn": (0,)}


def gates(array, cell):
    """From either's order of gates to the other's, along the first axis."""
    parts = np.split(array, len(ORDER[cell]))
    return np.concatenate([parts[i] for i in ORDER[cell]])


def write_parameters(path, model, cell, layers):
    """Of a model of PyTorch, for --init-from."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    with h5py.File(path, "w") as file:
        file["parameters/embedding"] = state["embedding.weight"]
        for l in range(layers):
            ours, theirs = f"parameters/{cell}/{l}", f"{cell}.{{}}_l{l}".format
            kernel = np.concatenate([state[theirs(f"weight_{x}")] for x in ("ih", "hh")], axis=1)
            file[f"{ours}/kernel"] = gates(kernel, cell).T
            bias, recurrent_bias = state[theirs("bias_ih")], state[theirs("bias_hh")]
            if cell == "gru":
                file[f"{ours}/recurrent_bias"] = recurrent_bias
            else:  # only their sum counts
                bias = bias + recurrent_bias
            file[f"{ours}/bias"] = gates(bias, cell)
        file["parameters/softmax/weight"] = state["decoder.weight"].T
        file["parameters/softmax/bias"] = state["decoder.bias"]


def read_parameters(path, model, cell, layers):
    """Into a model of PyTorch, of a checkpoint or a file of --save-parameters."""
    state = {}
    with h5py.File(path) as file:
        parameters = file["parameters"]
        state["embedding.weight"] = parameters["embedding"][:]
        for l in range(layers):
            ours, theirs = parameters[f"{cell}/{l}"], f"{cell}.{{}}_l{l}".format
            kernel = gates(ours["kernel"][:].T, cell)  # [G·H,2H]
            state[theirs("weight_ih")], state[theirs("weight_hh")] = np.split(kernel, 2, axis=1)
            bias = gates(ours["bias"][:], cell)
            if cell == "lstm" and "config" in file:  # PyTorch has no forget bias of its own
                forget = np.split(bias, 4)[1]  # a view
                forget += np.float32(file["config"].attrs["forget_bias"])
            state[theirs("bias_ih")] = bias
            state[theirs("bias_hh")] = (ours["recurrent_bias"][:] if cell == "gru"
                                        else np.zeros_like(bias))
        state["decoder.weight"] = parameters["softmax/weight"][:].T
        state["decoder.bias"] = parameters["softmax/bias"][:]
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
