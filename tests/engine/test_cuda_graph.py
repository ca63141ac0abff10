"""Recording and replaying a step, emulated on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from engine.cuda_graph import WARM_UP, CaptureError, GraphedStep
from engine.finite import DivergedError
from gan.rollback import Rollback
from gan.trainer import Trainer
from tests.small_trainer import trainer
from tests.states import assert_equal


class Tape(TorchDispatchMode):
    """Records every operation on tensors while a function runs, and replays them, as a CUDA graph does.

    Numbers stay constant, intermediate tensors are computed again, and all other tensors stay in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Callable, Any, Any, Any]] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        # Keep the result: the id of a freed tensor could be reused.
        self._operations.append((function, arguments, options or {}, result))
        return result

    def record(self, function: Callable[[], None]) -> None:
        with self:
            function()

    @torch.no_grad()
    def replay(self) -> None:
        new_tensors: dict[int, torch.Tensor] = {}

        def current(value: Any) -> Any:
            return new_tensors.get(id(value), value) if isinstance(value, torch.Tensor) else value

        for function, arguments, options, recorded_result in self._operations:
            result = function(*tree_map(current, arguments), **tree_map(current, options))
            for old, new in zip(_tensors(recorded_result), _tensors(result), strict=True):
                new_tensors[id(old)] = new


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, list | tuple) else []


VARIANTS = {
    "default": {},
    "batch norm": {"normalisation": "batch"},
    "textbook": {"textbook": True},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_replayed_steps_equal_direct_ones_bit_for_bit(variant):
    direct, replayed = (trainer(**VARIANTS[variant], ema_half_life=20.0) for _ in range(2))
    tape = Tape()
    for step in range(6):  # into the second epoch, and past the ramp-up of the average
        direct.step()
        if step == 1:
            with mock.patch.object(replayed, "_run", partial(tape.record, replayed._step_on_device)):
                replayed.step()
        else:
            with mock.patch.object(replayed, "_run", tape.replay if step > 1 else replayed._run):
                replayed.step()
    assert_equal(replayed.state(), direct.state())
    assert replayed.statistics() == direct.statistics()
    with torch.no_grad():
        replayed.generator.project.weight[0, 0] = float("nan")
    with mock.patch.object(replayed, "_run", tape.replay):
        replayed.step()
    with pytest.raises(DivergedError, match=r"at step 7$"):
        replayed.check_finite()


@pytest.fixture
def gpu(monkeypatch) -> Iterator[list[str]]:
    """Emulate CUDA graphs with tapes, and log the calls."""
    calls: list[str] = []

    class Graph(Tape):
        def register_generator_state(self, random: torch.Generator) -> None:
            calls.append("registered")

        def replay(self) -> None:
            calls.append("replayed")
            super().replay()

    @contextmanager
    def recording(graph: Graph, capture_error_mode: str) -> Iterator[None]:
        calls.append("recorded")
        with graph:
            yield

    @contextmanager
    def side_stream(stream: object) -> Iterator[None]:
        calls.append("called")
        yield

    for name, fake in [("CUDAGraph", Graph), ("graph", recording), ("stream", side_stream)]:
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "Stream", mock.Mock)
    monkeypatch.setattr(torch.cuda, "current_stream", mock.Mock)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: calls.append("stream set back"))
    return calls


def test_a_few_direct_calls_precede_the_recording(gpu):
    results = []
    add = GraphedStep(lambda: results.append(torch.ones(2).add_(1)), torch.Generator())
    for _ in range(WARM_UP + 3):
        add()
    assert gpu == [*["called"] * WARM_UP, "registered", "recorded", *["replayed"] * 3]
    assert len(results) == WARM_UP + 1


def with_graph(graphed: Trainer) -> Trainer:
    """Let a trainer record its step, as on a GPU."""
    graphed._run = GraphedStep(graphed._step_on_device, graphed._random)
    return graphed


def test_a_refused_recording_is_reported_once_and_training_continues(gpu, monkeypatch, capsys):
    @contextmanager
    def refused(graph: object, **_: object) -> Iterator[None]:
        yield
        raise RuntimeError("operation not permitted\nand much more")

    def record_without_effect(self: Trainer) -> None:
        """A recording runs the code, which leaves gradients behind, but does no work on the device."""
        for weight in self.generator.parameters():
            weight.grad = torch.full_like(weight, 1e3)

    monkeypatch.setattr(torch.cuda, "graph", refused)
    direct, graphed = trainer(), with_graph(trainer())
    body = graphed._step_on_device
    for step in range(WARM_UP + 3):
        direct.step()
        if step == WARM_UP:
            graphed._run._function = lambda: record_without_effect(graphed)
        graphed.step()
    assert graphed._run == body
    assert_equal(graphed.state(), direct.state())
    assert capsys.readouterr().err == "note: no CUDA graph, which costs speed: operation not permitted\n"


def test_a_rollback_records_again(monkeypatch):
    """The learning rate and the place of the optimizers' state have changed."""
    graphed = trainer()
    graphed.cuda_graph = True
    monkeypatch.setattr("gan.trainer.FiniteCheck", mock.Mock())
    graphs = []
    monkeypatch.setattr("gan.trainer.GraphedStep", lambda *args: graphs.append(args) or len(graphs))
    for times in (1, 2):
        graphed.apply_rollback(Rollback(times))
        assert graphed._run == times
    graphed.cuda_graph = False
    graphed.apply_rollback(Rollback(3))
    assert graphed._run == graphed._step_on_device


def test_a_capture_error_is_one_line(gpu, monkeypatch):
    def fail() -> None:
        if gpu[-1] == "recorded":
            raise RuntimeError("no\nand why")

    step = GraphedStep(fail, torch.Generator())
    for _ in range(WARM_UP):
        step()
    with pytest.raises(CaptureError, match=r"^no$"):
        step()
    assert gpu[-1] == "stream set back"
