"""Front-ends of random weights for tests: an ONNX graph of some 50 kB, the same in TorchScript,
Python functions."""

import json

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

CHANNELS, DIMENSION, KERNEL, STRIDE = 64, 128, 64, 160
CONTRACT = {"sample_rate_hz": 16_000, "licence": "MIT"}


def random_weights(seed=0):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 0.2, (CHANNELS, 1, KERNEL)).astype(np.float32)
    return kernel, rng.normal(0, 0.2, (CHANNELS, DIMENSION)).astype(np.float32)


def write_contract(path, **fields):
    path.with_name(f"{path.name}.json").write_text(json.dumps(CONTRACT | fields))


def write_onnx(path, seed=0, batch="batch", samples="samples", contract=True, **fields):
    """Write a graph from `wave` [B, T] to `frames` [B, time, 64] and `embedding` [B, 128], the
    first of both."""
    kernel, projection = random_weights(seed)
    nodes = [
        helper.make_node("Unsqueeze", ["wave", "axis"], ["mono"]),
        helper.make_node("Conv", ["mono", "kernel"], ["filtered"], strides=[STRIDE]),
        helper.make_node("Relu", ["filtered"], ["heard"]),
        helper.make_node("Transpose", ["heard"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["frames", "axis"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "projection"], ["embedding"]),
    ]
    reals = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "front-end",
        [helper.make_tensor_value_info("wave", reals, [batch, samples])],
        [
            helper.make_tensor_value_info("embedding", reals, [batch, DIMENSION]),
            helper.make_tensor_value_info("frames", reals, [batch, "time", CHANNELS]),
        ],
        [
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(projection, "projection"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    if contract:
        write_contract(path, **fields)
    return f"onnx:{path}"


class Net(torch.nn.Module):
    """The graph of `write_onnx`; `frames` leaves out its last two steps."""

    def __init__(self, seed=0, frames=False):
        super().__init__()
        kernel, projection = random_weights(seed)
        self.kernel, self.projection = torch.from_numpy(kernel), torch.from_numpy(projection)
        self.frames = frames

    def forward(self, samples):
        heard = torch.conv1d(samples[:, None], self.kernel, stride=STRIDE).relu().transpose(1, 2)
        return heard if self.frames else heard.mean(dim=1) @ self.projection


def write_torchscript(path, net=None, **fields):
    example = torch.zeros(2, 48_000)
    torch.jit.trace((net or Net()).eval(), example).save(str(path))
    write_contract(path, **fields)
    return f"torchscript:{path}"


FUNCTIONS = '''
from pathlib import Path

import numpy as np

def loudness(samples):
    """Level, and level of the steps, of samples [B, T]."""
    return np.stack([np.abs(samples).mean(axis=1), np.abs(np.diff(samples)).mean(axis=1)], axis=1)

def other_loudness(samples):
    return 1 - 2 * loudness(samples)[:, ::-1]

def frames(samples):
    return samples[:, : 16_000 * 3].reshape(len(samples), 3, -1)[..., :4]

def nan_where_loud(samples):
    found = loudness(samples)
    found[found[:, 0] > 0.1] = np.nan
    return found

def finite_once_told(samples):
    told = Path(__file__).with_name("told").exists()
    return loudness(samples) * (1 if told else np.nan)

def one_dimension(samples):
    return samples.mean(axis=1)

def fails(samples):
    raise ZeroDivisionError("by design")

def in_bfloat16(samples):
    import torch

    return torch.from_numpy(loudness(samples)).to(torch.bfloat16)

def ragged(samples):
    return [list(row[: number + 1]) for number, row in enumerate(samples)]

def wider_in_batches(samples):
    return np.zeros((len(samples), 4 if len(samples) == 1 else 6))

def narrow_in_batches(samples):
    return np.zeros((len(samples), 4 if len(samples) < 3 else 1))

def no_dimension(samples):
    return np.zeros((len(samples), 0))

def no_time(samples):
    return np.zeros((len(samples), 0, 8))

def too_large(samples):
    return 1e9 * (1 + loudness(samples))

def never_finite(samples):
    return np.full((len(samples), 8), np.nan)

constant = 3
'''


def write_module(folder, name, /, **fields):
    """Write a module of functions into a folder of the Python path."""
    path = folder / f"{name}.py"
    path.write_text(FUNCTIONS)
    write_contract(path, **fields)
