"""The machine: where to compute, in which precision, and what repetition bit for bit depends on."""

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

MALLOC = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}
"""Parameters of glibc's mallopt (malloc.h): no block by mmap, and up to 2 GiB at the heap's end kept."""
PROBE_SIDE = 1024
PROBE_GAIN = 1.3
"""How much faster bfloat16 must prove than float32 to be worth its coarser numbers."""


def choose_device(wanted: Device) -> torch.device:
    """The device of that kind; for `auto` CUDA, then Apple's MPS, then the CPU, whichever is there.

    Raises:
        UserError: the machine, or the installed torch, has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(kind for kind, usable in there.items() if usable))
    if not there.get(wanted):
        usable = ", ".join(kind for kind, usable in there.items() if usable)
        raise UserError(f"--device {wanted} is not to be had on this machine; there is: {usable}")
    return torch.device(wanted)


def choose_precision(wanted: Precision, device: torch.device) -> Precision:
    """The precision of the networks' arithmetic; for `auto` the one that proves faster.

    Many processors take bfloat16 and emulate it slowly, so on a CPU both are timed on a matrix
    product. A GPU is asked whether it has units for it; MPS stays with float32.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type != "cpu":
        return "float32"
    gain = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    return "bfloat16" if gain >= PROBE_GAIN else "float32"


def exact_float32() -> contextlib.AbstractContextManager[None]:
    """In this context float32 convolutions on a GPU are float32, not the shorter TF32 that cuDNN prefers."""
    cudnn = torch.backends.cudnn
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )


def enable_cudnn_benchmark(device: torch.device) -> None:
    """On a GPU, have cuDNN time its algorithms for each shape of convolution it meets, and keep the fastest.

    By default it guesses, worst for numbers of channels as odd as those of the preset `light`. Timing pays
    where few shapes come again and again, as in a training; it is over before a step is recorded as a
    graph. Which algorithm wins is chance where two are about as fast, so two runs on a GPU may differ in
    their last bits; nothing promises that they do not.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


@contextlib.contextmanager
def report_out_of_memory() -> Iterator[None]:
    """Have too little memory, of a GPU or of the processor, told in one line (`UserError`)."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "there is not enough memory: a smaller --batch-size takes less, or --accumulate 2 or more, or "
            "smaller networks; checkpoints are as they were"
        ) from error


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees, where glibc manages it.

    By default glibc gives large blocks back to the system at once. On a CPU every step frees and asks for
    the same blocks, and having them zeroed page by page each time takes a fifth of it.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for parameter, value in MALLOC.values():
            library.mallopt(parameter, value)


def describe_environment(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """What repetition bit for bit depends on beside the settings."""
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


def _instruction_set() -> str:
    """What torch's kernels are chosen by, and the units for bfloat16 that oneDNN's are chosen by as well."""
    units = {"AMX": "_is_amx_tile_supported", "bfloat16": "_is_avx512_bf16_supported"}
    # torch has no public name for them that version 2.11 knows.
    found = [unit for unit, asked in units.items() if getattr(torch.cpu, asked, bool)()]
    return " + ".join([torch.backends.cpu.get_cpu_capability(), *found])


def print_environment_changes(then: dict[str, Any], here: dict[str, Any]) -> None:
    """Print in what this machine's `environment` differs from an earlier one."""
    for what, was in then.items():
        if here.get(what) != was:
            print(f"note: {what} was {was} and is now {here.get(what)}; steps may differ in the last bits")


def _product_seconds(precision: torch.dtype) -> float:
    """The shortest of a few matrix products, after one to warm up."""
    left = torch.ones(PROBE_SIDE, PROBE_SIDE, dtype=precision)
    seconds: list[float] = []
    for _ in range(4):
        start = time.perf_counter()
        left @ left
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
