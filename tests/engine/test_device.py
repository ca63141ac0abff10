import platform
import subprocess
import sys

import pytest
import torch

from engine import device
from engine.device import (
    choose_device,
    choose_precision,
    describe_environment,
    enable_cudnn_benchmark,
    exact_float32,
    report_out_of_memory,
)
from engine.errors import UserError
from tests.in_process import ROOT

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.fixture
def machine(monkeypatch):
    """Pretend that the machine has these devices."""

    def pretend(*, cuda: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.fixture
def matmul(monkeypatch):
    """Pretend that a matrix product takes this many seconds."""

    def pretend(**seconds: float) -> None:
        monkeypatch.setattr(device, "_matmul_seconds", lambda dtype: seconds[str(dtype).split(".")[1]])

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_chooses_the_best_device(machine, cuda, mps, chosen):
    machine(cuda=cuda, mps=mps)
    assert choose_device("auto") == torch.device(chosen)
    assert choose_device("cpu") == CPU


def test_a_named_device_is_chosen(machine):
    machine(cuda=True, mps=True)
    assert choose_device("mps") == MPS
    assert choose_device("cuda") == CUDA


def test_an_unavailable_device_is_reported_with_the_available_ones(machine):
    machine(mps=True)
    with pytest.raises(UserError, match=r"--device cuda .* available: mps, cpu$"):
        choose_device("cuda")
    machine()
    with pytest.raises(UserError, match=r"--device mps .* available: cpu$"):
        choose_device("mps")


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [(2.0, 1.0, "bfloat16"), (1.31, 1.0, "bfloat16"), (1.29, 1.0, "float32"), (1.0, 5.0, "float32")],
)
def test_a_cpu_uses_bfloat16_if_it_is_faster(matmul, float32, bfloat16, chosen):
    matmul(float32=float32, bfloat16=bfloat16)
    assert choose_precision("auto", CPU) == chosen


def test_a_named_precision_is_chosen(matmul):
    matmul(float32=9, bfloat16=1)
    assert choose_precision("float32", CPU) == "float32"
    matmul(float32=1, bfloat16=9)
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_a_gpu_uses_bfloat16_if_it_supports_it(monkeypatch, matmul):
    matmul()  # nothing is timed
    for units, chosen in ((True, "bfloat16"), (False, "float32")):

        def supported(*, including_emulation: bool, units: bool = units) -> bool:
            return including_emulation or units

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        assert choose_precision("auto", CUDA) == chosen
    assert choose_precision("auto", MPS) == "float32"


def test_the_matrix_product_is_timed(monkeypatch):
    monkeypatch.setattr(device, "MATMUL_SIZE", 64)
    clock = iter([0.0, 50.0, 100.0, 103.0, 200.0, 202.0, 300.0, 304.0])
    monkeypatch.setattr(device.time, "perf_counter", lambda: next(clock))
    # 50 s to warm up; then 3, 2 and 4.
    assert device._matmul_seconds(torch.bfloat16) == 2
    assert next(clock, None) is None


def test_only_a_gpu_times_algorithms_and_exact_float32_keeps_that(monkeypatch):
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark
    try:
        cudnn.benchmark = False
        enable_cudnn_benchmark(CPU)
        assert not cudnn.benchmark
        enable_cudnn_benchmark(CUDA)
        with exact_float32():
            assert cudnn.benchmark
            assert not cudnn.allow_tf32
        assert cudnn.benchmark
    finally:
        cudnn.benchmark = before


def exhaust_cpu() -> None:
    torch.empty(2**55)


def exhaust_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")


def exhaust_python() -> None:
    bytearray(2**62)


@pytest.mark.parametrize("exhaust_memory", [exhaust_cpu, exhaust_gpu, exhaust_python])
def test_a_lack_of_memory_is_one_line(exhaust_memory):
    with (
        pytest.raises(UserError, match=r"not enough memory: use a smaller --batch-size"),
        report_out_of_memory(),
    ):
        exhaust_memory()


def test_other_errors_are_unchanged():
    with pytest.raises(RuntimeError, match="shape"), report_out_of_memory():
        torch.ones(2).view(3)


def test_the_environment():
    environment = describe_environment(CPU)
    assert environment["torch"] == torch.__version__
    assert environment["threads"] == torch.get_num_threads()
    assert environment["device"] == "cpu"
    assert environment["instruction_set"].startswith(torch.backends.cpu.get_cpu_capability())
    assert {"python", "torchvision", "numpy", "processor"} < environment.keys()
    assert describe_environment(CPU) == environment


def test_the_instruction_set_contains_bfloat16_units(monkeypatch):
    capability = torch.backends.cpu.get_cpu_capability()
    for is_supported, expected in ((False, capability), (True, f"{capability} + AMX + bfloat16")):
        for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
            monkeypatch.setattr(torch.cpu, probe, lambda result=is_supported: result)
        assert describe_environment(CPU)["instruction_set"] == expected


def test_the_environment_contains_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert describe_environment(CPU)["threads"] == 77


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these parameters")
def test_freed_memory_is_reused():
    """New memory costs page faults. In a process of its own, as this cannot be undone."""
    script = """
import resource, sys, torch
from engine.device import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""

    def page_faults(mode: str) -> int:
        command = [sys.executable, "-c", script, mode]
        process = subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT)
        return int(process.stdout)

    assert page_faults("keep") < 0.5 * page_faults("return")
