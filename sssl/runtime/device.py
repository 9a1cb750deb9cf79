"""What scores and trains: the machine's GPUs or its CPU, and how a GPU says that it has no memory
left."""

from __future__ import annotations

import os
import re
from pathlib import Path

# A head of some hundred weights needs no workspace of 32 MiB a stream, which a card that others use
# may not have.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:1")
os.environ.setdefault("CUBLASLT_WORKSPACE_SIZE", "1024")

import torch

from sssl.errors import DeviceError
from sssl.runtime.machine import cores

_NO_MEMORY = re.compile(
    "out of memory|ALLOC_FAILED|cudaErrorMemoryAllocation"
    # What cuBLAS and cuDNN say where memory for a handle or a workspace is missing.
    "|CUBLAS_STATUS_NOT_INITIALIZED|CUDNN_STATUS_NOT_INITIALIZED|CUDNN_STATUS_INTERNAL_ERROR"
    "|unable to find an engine|unable to find a valid cuDNN algorithm",
    re.IGNORECASE,
)
_DRIVEN = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver has a folder for each GPU of the machine."""


def device() -> str:
    """Return the kind of device that this process scores and trains on."""
    if torch.cuda.is_available():
        return "cuda"
    return "cpu"


def gpus() -> list[str]:
    """Return the names of the GPUs that this process sees."""
    if device() == "cuda":
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return []


def dtype_of(device: str) -> torch.dtype:
    """Return what networks compute in: bfloat16 on a GPU that has it, single precision on a CPU,
    whose results are the same on every machine that way."""
    on_gpu = device.startswith("cuda")
    if on_gpu and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU, or pinned memory, is full. PyTorch has a class of its own
    for its allocator only; libraries and the driver say it in words."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def require_gpu(flag: str) -> None:
    """Refuse to go on where torch finds no GPU: the work would be done at the speed of a CPU and
    the price of a GPU.

    Raises:
        DeviceError: there is none.
    """
    if device() == "cpu":
        raise DeviceError(f"{flag}: {_no_gpu()}")


def refuse_cpu_beside_gpu(flag: str) -> None:
    """Refuse to go on where the machine has a GPU that torch does not find, unless it was hidden on
    purpose.

    Raises:
        DeviceError: there is such a GPU.
    """
    is_hidden = "CUDA_VISIBLE_DEVICES" in os.environ
    if _DRIVEN.is_dir() and any(_DRIVEN.iterdir()) and device() == "cpu" and not is_hidden:
        raise DeviceError(f"this machine has a GPU, but {_no_gpu()} {flag} goes on without it")


def _no_gpu() -> str:
    return (
        f"torch {torch.__version__} finds no GPU; does the driver ({_driver()}) fit its CUDA"
        f" {torch.version.cuda}?"
    )


def _driver() -> str:
    return _first(r"(\d+\.\d+(\.\d+)?)", Path("/proc/driver/nvidia/version"))


def describe() -> str:
    """Say what computes, for a log: the GPUs with their driver, or the cores. Nothing is asked of a
    GPU itself, which would take some hundred MB of its memory."""
    if device() == "cpu":
        return f"{cores()} CPU cores, torch {torch.__version__}"
    about = [_first(r"Model:\s*(.+)", path) for path in _DRIVEN.glob("*/information")]
    models = ", ".join(sorted(set(about))) or "of unknown kind"
    return (
        f"{torch.cuda.device_count()} GPU ({models}), driver {_driver()}, CUDA"
        f" {torch.version.cuda}, torch {torch.__version__}"
    )


def _first(pattern: str, path: Path) -> str:
    try:
        found = re.search(pattern, path.read_text())
    except OSError:
        found = None
    if found:
        return found.group(1).strip()
    return "unknown"
