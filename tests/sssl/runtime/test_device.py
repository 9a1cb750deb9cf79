import pytest
import torch

from sssl.errors import DeviceError
from sssl.runtime import device
from sssl.runtime.device import describe, dtype_of, lacks_memory, refuse_cpu_beside_gpu, require_gpu


def test_a_cpu_computes_in_single_precision():
    assert dtype_of("cpu") == torch.float32


def test_other_errors_do_not_pass_for_a_full_card():
    assert lacks_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert lacks_memory(torch.AcceleratorError("CUDA error: out of memory"))
    assert lacks_memory(RuntimeError("cuBLAS error: CUBLAS_STATUS_ALLOC_FAILED"))
    assert not lacks_memory(
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    )
    assert not lacks_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not lacks_memory(MemoryError("out of memory"))


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error_that_names_the_flag(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        DeviceError, match=r"--accelerator gpu: torch 2\..* finds no GPU; does the driver .* fit"
    ):
        require_gpu("--accelerator gpu")


def test_no_cpu_works_by_accident_beside_a_gpu_that_torch_does_not_find(monkeypatch, tmp_path):
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_DRIVEN", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    refuse_cpu_beside_gpu("--accelerator cpu")  # there is none
    (tmp_path / "0000:00:03.0").mkdir()
    with pytest.raises(
        DeviceError, match=r"has a GPU, but torch .* finds no GPU; .* --accelerator cpu goes on"
    ):
        refuse_cpu_beside_gpu("--accelerator cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    refuse_cpu_beside_gpu("--accelerator cpu")  # hidden on purpose


def test_a_log_says_what_computes(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    assert "CPU cores, torch 2." in describe()
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(device, "_first", lambda pattern, path: "580.1")
    assert describe().startswith("2 GPU (")
    assert "driver 580.1, CUDA" in describe()
