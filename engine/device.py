"""The hardware: where to compute, in which precision, and what bit-for-bit reproduction depends on."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from engine.errors import UserError, is_out_of_memory
from engine.settings import Device, Precision

MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}
"""Parameters of glibc's mallopt (malloc.h): no blocks from mmap; keep up to 2 GiB at the end of the heap."""
MATMUL_SIZE = 1024
MIN_BFLOAT16_SPEEDUP = 1.3
"""Speed-up over float32 from which bfloat16 is worth the lower precision."""


def choose_device(name: Device) -> torch.device:
    """The device of this name; for `auto`, the first available of CUDA, Apple's MPS and the CPU.

    Raises:
        UserError: the machine, or the installed torch, has no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    usable = [kind for kind, is_available in available.items() if is_available]
    if name == "auto":
        return torch.device(usable[0])
    if name not in usable:
        raise UserError(f"--device {name} is not available on this machine; available: {', '.join(usable)}")
    return torch.device(name)


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision for the networks' arithmetic; `auto` becomes the faster one.

    Many CPUs emulate bfloat16 slowly, so on a CPU a matrix product is timed in both. A GPU reports whether it
    supports bfloat16; MPS uses float32.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type != "cpu":
        return "float32"
    speedup = _matmul_seconds(torch.float32) / _matmul_seconds(torch.bfloat16)
    return "bfloat16" if speedup >= MIN_BFLOAT16_SPEEDUP else "float32"


def exact_float32() -> contextlib.AbstractContextManager[None]:
    """A context in which float32 convolutions on a GPU do not use TF32, which cuDNN prefers."""
    cudnn = torch.backends.cudnn
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )


def enable_cudnn_benchmark(device: torch.device) -> None:
    """On a GPU, let cuDNN time its algorithms for each new shape of convolution and use the fastest.

    Its heuristics are worst for unusual numbers of channels, such as 150. Timing pays off in training, where
    a few shapes recur; it ends before a step is recorded as a CUDA graph. Of two algorithms that are about
    equally fast, either may win, so two runs on a GPU may differ in their last bits.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


@contextlib.contextmanager
def report_out_of_memory() -> Iterator[None]:
    """Turn a lack of memory, on a GPU or the CPU, into a one-line `UserError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "not enough memory: use a smaller --batch-size or smaller networks; the checkpoints are intact"
        ) from error


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, if the C library is glibc.

    By default, glibc returns large blocks to the system at once. On a CPU, every step frees and requests the
    same blocks, and zeroing them page by page takes a fifth of the step.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for parameter, value in MALLOPT.values():
            library.mallopt(parameter, value)


def describe_environment(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """What bit-for-bit reproduction depends on beside the settings."""
    on_gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "processor": platform.machine(),
        "instruction_set": _instruction_set(),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def print_environment_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Print how an earlier result of `describe_environment` differs from this one."""
    for name, value in before.items():
        if now.get(name) != value:
            print(f"note: {name} was {value} and is now {now.get(name)}; steps may differ in the last bits")


def _instruction_set() -> str:
    """What torch and oneDNN choose their kernels by: vector instructions and bfloat16 units."""
    # torch 2.11 has no public functions for the latter.
    probes = {"AMX": "_is_amx_tile_supported", "bfloat16": "_is_avx512_bf16_supported"}
    units = [unit for unit, probe in probes.items() if getattr(torch.cpu, probe, bool)()]
    return " + ".join([torch.backends.cpu.get_cpu_capability(), *units])


def _matmul_seconds(dtype: torch.dtype) -> float:
    """The shortest of three matrix products, after one to warm up."""
    matrix = torch.ones(MATMUL_SIZE, MATMUL_SIZE, dtype=dtype)
    seconds: list[float] = []
    for _ in range(4):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
