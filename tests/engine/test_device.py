import platform
import subprocess
import sys

import pytest
import torch

from engine import device as hardware
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
    """A machine with these devices."""

    def pretend(*, cuda: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.fixture
def product(monkeypatch):
    """A processor that takes so many seconds for a product."""

    def pretend(**seconds: float) -> None:
        monkeypatch.setattr(hardware, "_matmul_seconds", lambda dtype: seconds[str(dtype).split(".")[1]])

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "taken"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_there_is_picks_itself(machine, cuda, mps, taken):
    machine(cuda=cuda, mps=mps)
    assert choose_device("auto") == torch.device(taken)
    assert choose_device("cpu") == CPU


def test_a_device_that_is_named_is_taken(machine):
    machine(cuda=True, mps=True)
    assert choose_device("mps") == MPS
    assert choose_device("cuda") == CUDA


def test_a_device_that_is_not_there_is_told_with_those_that_are(machine):
    machine(mps=True)
    with pytest.raises(UserError, match=r"--device cuda .* available: mps, cpu$"):
        choose_device("cuda")
    machine()
    with pytest.raises(UserError, match=r"--device mps .* available: cpu$"):
        choose_device("mps")


@pytest.mark.parametrize(
    ("float32", "bfloat16", "taken"),
    [(2.0, 1.0, "bfloat16"), (1.31, 1.0, "bfloat16"), (1.29, 1.0, "float32"), (1.0, 5.0, "float32")],
)
def test_a_cpu_takes_bfloat16_where_it_proves_faster(product, float32, bfloat16, taken):
    product(float32=float32, bfloat16=bfloat16)
    assert choose_precision("auto", CPU) == taken


def test_a_precision_that_is_named_is_taken(product):
    product(float32=9, bfloat16=1)
    assert choose_precision("float32", CPU) == "float32"
    product(float32=1, bfloat16=9)
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_a_gpu_is_asked(monkeypatch, product):
    product()  # nothing is timed
    for units, taken in ((True, "bfloat16"), (False, "float32")):

        def supported(*, including_emulation: bool, units: bool = units) -> bool:
            return including_emulation or units

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        assert choose_precision("auto", CUDA) == taken
    assert choose_precision("auto", MPS) == "float32"


def test_products_are_really_timed(monkeypatch):
    monkeypatch.setattr(hardware, "MATMUL_SIZE", 64)
    clock = iter([0.0, 50.0, 100.0, 103.0, 200.0, 202.0, 300.0, 304.0])
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: next(clock))
    # The first, 50 s, is to warm up; then 3, 2 and 4.
    assert hardware._matmul_seconds(torch.bfloat16) == 2
    assert next(clock, None) is None


def test_algorithms_are_timed_on_a_gpu_alone_and_sampling_leaves_it_so(monkeypatch):
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


def too_much() -> None:
    torch.empty(2**55)


def too_much_for_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")


def too_much_for_an_array() -> None:
    bytearray(2**62)


@pytest.mark.parametrize("greedy", [too_much, too_much_for_a_gpu, too_much_for_an_array])
def test_too_little_memory_is_told_with_what_takes_less(greedy):
    with pytest.raises(UserError, match=r"not enough memory: a smaller --batch-size"), report_out_of_memory():
        greedy()


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shape"), report_out_of_memory():
        torch.ones(2).view(3)


def test_what_repetition_depends_on_is_told():
    told = describe_environment(CPU)
    assert told["torch"] == torch.__version__
    assert told["threads"] == torch.get_num_threads()
    assert told["device"] == "cpu"
    assert told["instruction_set"].startswith(torch.backends.cpu.get_cpu_capability())
    assert {"python", "torchvision", "numpy", "processor"} < told.keys()
    assert describe_environment(CPU) == told


def test_units_for_bfloat16_are_part_of_the_instruction_set(monkeypatch):
    capability = torch.backends.cpu.get_cpu_capability()
    for there, said in ((False, capability), (True, f"{capability} + AMX + bfloat16")):
        for asked in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
            monkeypatch.setattr(torch.cpu, asked, lambda there=there: there)
        assert describe_environment(CPU)["instruction_set"] == said


def test_threads_count(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert describe_environment(CPU)["threads"] == 77


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_freed_memory_is_used_again():
    """Without the page faults that new memory costs: in a process of its own, as it cannot be undone."""
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

    def faults(word: str) -> int:
        command = [sys.executable, "-c", script, word]
        done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT)
        return int(done.stdout)

    assert faults("keep") < 0.5 * faults("give back")
