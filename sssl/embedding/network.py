"""Networks of the kinds that a front-end may be, each as a function of samples.

A network takes samples [B, T] in single precision and returns [B, D] or [B, time, D].
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sssl.embedding.contract import Contract, FrontEnd
from sssl.errors import DeviceError, FrontEndError

Samples = NDArray[np.float32]
Network = Callable[[Samples], NDArray[np.float32]]
_REALS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def load_network(front_end: FrontEnd, window: int, threads: int, on_gpu: bool = False) -> Network:
    """Load a front-end that gets windows of so many samples.

    Raises:
        FrontEndError: it cannot be loaded, or does not take what its contract says.
        DeviceError: it is to run on a GPU and cannot.
        ImportError: what runs it is not installed.
    """
    loaders = {"onnx": _onnx, "torchscript": _torchscript, "module": _function}
    load = loaders[front_end.reference.kind]
    return load(front_end, window, threads, on_gpu)


def pooled(front_end: FrontEnd, found: Any, batch: int) -> NDArray[np.float32]:
    """Return what a network gave for a batch as one embedding [B, D] a window, pooled over time.

    Raises:
        FrontEndError: it is no array, has another shape, or has nothing in it.
    """
    try:
        values = np.asarray(found)
    except Exception as error:  # noqa: BLE001 (what converts itself may raise anything)
        raise FrontEndError(
            f"{front_end.reference}: for samples [{batch}, T] the output, a {type(found).__name__},"
            f" makes no array: {_first_line(error)}"
        ) from None
    is_real = values.dtype.kind in "fiu"
    is_batch = values.ndim in (2, 3) and len(values) == batch
    if not is_real or not is_batch or not values.size:
        given = f"{values.dtype} {list(values.shape)}"
        expected = f"reals [{batch}, D] or [{batch}, time, D], D and time 1 or more"
        raise FrontEndError(
            f"{front_end.reference}: for samples [{batch}, T] the output is {given}, expected"
            f" {expected}"
        )
    values = values.astype(np.float32, copy=False)
    if values.ndim == 2:
        return values
    match front_end.contract.pooling:
        case "max":
            return np.asarray(values.max(axis=1))
        case "first":
            return np.asarray(values[:, 0])
        case _:
            return np.asarray(values.mean(axis=1))


def _onnx(front_end: FrontEnd, window: int, threads: int, on_gpu: bool) -> Network:
    import onnxruntime  # here: an extra, and only this kind needs it

    place = str(front_end.reference)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # its warnings are about graphs that others made
    available = onnxruntime.get_available_providers()
    providers = [name for name in _PROVIDERS if name in available]
    if on_gpu and providers[0] != _PROVIDERS[0]:
        raise DeviceError(f"{place}: this onnxruntime knows no GPU: pip install onnxruntime-gpu")
    try:
        session = onnxruntime.InferenceSession(front_end.weights(), options, providers=providers)
    except FrontEndError:
        raise
    except Exception as error:  # noqa: BLE001 (its errors have no class of their own)
        raise FrontEndError(f"{place} cannot be loaded: {_first_line(error)}") from None
    if on_gpu and session.get_providers()[0] != _PROVIDERS[0]:
        raise DeviceError(f"{place}: onnxruntime finds no GPU; do its CUDA and the driver fit?")
    taken = _input(place, front_end.contract, session.get_inputs(), window)
    output = _output(place, front_end.reference.output, session.get_outputs())
    fixed = taken.shape[0] if isinstance(taken.shape[0], int) else None

    def run(samples: Samples) -> NDArray[np.float32]:
        laid_out = _laid_out(samples, front_end.contract)
        shaped = laid_out.astype(_REALS[taken.type], copy=False)
        try:
            (found,) = session.run([output], {taken.name: shaped})
        except Exception as error:  # noqa: BLE001 (likewise)
            raise FrontEndError(f"{place} fails: {_first_line(error)}") from None
        return pooled(front_end, found, len(samples))

    if fixed is None:
        return run
    return _in_batches_of(fixed, run)


def _input(place: str, contract: Contract, inputs: Sequence[Any], window: int) -> Any:
    """Return the input of a graph that takes the samples."""
    names = ", ".join(one.name for one in inputs)
    if contract.input is None and len(inputs) > 1:
        raise FrontEndError(f"{place} has inputs {names}: name one as `input` of the contract")
    found = [one for one in inputs if contract.input in (None, one.name)]
    if not found:
        raise FrontEndError(f"{place} has no input {contract.input}, but {names}")
    if len(inputs) > 1:
        raise FrontEndError(
            f"{place} has inputs {names}; only the samples can be given: export it so"
        )
    (taken,) = found
    axes = len(contract.layout)
    if taken.type not in _REALS or len(taken.shape) != axes:
        expected = f"reals of {axes} axes (layout {contract.layout})"
        raise FrontEndError(
            f"{place}: input {taken.name} is {taken.type} {taken.shape}, expected {expected}"
        )
    length = taken.shape[-1]
    if isinstance(length, int) and length != window:
        raise FrontEndError(
            f"{place}: input {taken.name} takes {length} samples, by the contract it would get"
            f" {window} at {contract.sample_rate_hz} Hz; see window_samples"
        )
    return taken


def _output(place: str, wanted: str | None, outputs: Sequence[Any]) -> str:
    names = [one.name for one in outputs]
    if wanted is None:
        return str(names[0])
    if wanted not in names:
        raise FrontEndError(f"{place}: it has no output {wanted}, but {', '.join(names)}")
    return wanted


def _torchscript(front_end: FrontEnd, window: int, threads: int, on_gpu: bool) -> Network:
    del window, on_gpu  # it takes any length; a GPU that is there is used
    import torch  # here: heavy, and of an extra

    from sssl.runtime.device import device

    place = str(front_end.reference)
    where = device()
    torch.set_num_threads(threads)
    try:
        module = torch.jit.load(io.BytesIO(front_end.weights()), map_location=where).eval()
    except FrontEndError:
        raise
    except Exception as error:  # noqa: BLE001
        raise FrontEndError(f"{place} cannot be loaded: {_first_line(error)}") from None

    def run(samples: Samples) -> NDArray[np.float32]:
        laid_out = np.ascontiguousarray(_laid_out(samples, front_end.contract))
        shaped = torch.from_numpy(laid_out)
        try:
            with torch.inference_mode():
                found = module(shaped.to(where))
        except Exception as error:  # noqa: BLE001
            raise FrontEndError(f"{place} fails: {_first_line(error)}") from None
        if not isinstance(found, torch.Tensor):
            raise FrontEndError(f"{place} returns a {type(found).__name__}, expected a tensor")
        return pooled(front_end, found.float().cpu().numpy(), len(samples))

    return run


def _function(front_end: FrontEnd, window: int, threads: int, on_gpu: bool) -> Network:
    del window, threads, on_gpu  # it decides itself
    module, _, name = front_end.reference.place.rpartition(".")
    place = str(front_end.reference)
    try:
        function = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise FrontEndError(f"{place}: {type(error).__name__}: {_first_line(error)}") from error
    if not callable(function):
        raise FrontEndError(f"{place}: {module} has no function {name}")

    def run(samples: Samples) -> NDArray[np.float32]:
        try:
            found = function(_laid_out(samples, front_end.contract))
            if hasattr(found, "detach"):  # a tensor of torch, maybe on a GPU
                found = found.detach().cpu()
                if found.is_floating_point():
                    found = found.float()  # NumPy has no bfloat16
        except Exception as error:
            why = f"{type(error).__name__}: {_first_line(error)}"
            raise FrontEndError(f"{place} fails: {why}") from error
        return pooled(front_end, found, len(samples))

    return run


def _laid_out(samples: Samples, contract: Contract) -> Samples:
    if contract.layout == "BCT":
        return samples[:, None]
    return samples


def _in_batches_of(size: int, run: Network) -> Network:
    """Run a network whose batches have one size: the last one is filled up with silence."""

    def run_all(samples: Samples) -> NDArray[np.float32]:
        found = []
        for first in range(0, len(samples), size):
            batch = samples[first : first + size]
            filled = np.zeros((size, samples.shape[1]), np.float32)
            filled[: len(batch)] = batch
            found.append(run(filled)[: len(batch)])
        return np.concatenate(found)

    return run_all


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    if lines:
        return lines[0].strip()
    return type(error).__name__
