"""Steps that are recorded once and replayed: what a graph would do on a GPU, as far as a CPU can tell."""

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
    """Notes every operation on tensors while a function runs, and repeats them, as a CUDA graph does.

    Numbers stay what they were; tensors made on the way are made again; all others are those that they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self._noted: list[tuple[Callable, Any, Any, Any]] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        # A tensor that were let go could leave its id to another.
        self._noted.append((function, arguments, options or {}, result))
        return result

    def record(self, function: Callable[[], None]) -> None:
        with self:
            function()

    @torch.no_grad()
    def replay(self) -> None:
        made: dict[int, torch.Tensor] = {}

        def now(value: Any) -> Any:
            return made.get(id(value), value) if isinstance(value, torch.Tensor) else value

        for function, arguments, options, before in self._noted:
            result = function(*tree_map(now, arguments), **tree_map(now, options))
            for old, new in zip(_tensors(before), _tensors(result), strict=True):
                made[id(old)] = new


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, list | tuple) else []


FORMS = {
    "default": {},
    "batch norm": {"normalisation": "batch"},
    "plain": {"plain": True},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_recorded_step_is_every_step_to_the_last_bit(form):
    straight, replayed = (trainer(**FORMS[form], ema_half_life=20.0) for _ in range(2))
    tape = Tape()
    for step in range(6):  # into the second epoch, and past where the average's half-life grows
        straight.step()
        if step == 1:
            with mock.patch.object(replayed, "_run", partial(tape.record, replayed._step_on_device)):
                replayed.step()
        else:
            with mock.patch.object(replayed, "_run", tape.replay if step > 1 else replayed._run):
                replayed.step()
    assert_equal(replayed.state(), straight.state())
    assert replayed.statistics() == straight.statistics()
    with torch.no_grad():
        replayed.generator.project.weight[0, 0] = float("nan")
    with mock.patch.object(replayed, "_run", tape.replay):
        replayed.step()
    with pytest.raises(DivergedError, match=r"at step 7$"):
        replayed.check_finite()


@pytest.fixture
def gpu(monkeypatch) -> Iterator[list[str]]:
    """What is asked of a GPU that is not there: its graphs are tapes."""
    asked: list[str] = []

    class Graph(Tape):
        def register_generator_state(self, random: torch.Generator) -> None:
            asked.append("registered")

        def replay(self) -> None:
            asked.append("replayed")
            super().replay()

    @contextmanager
    def recording(graph: Graph, capture_error_mode: str) -> Iterator[None]:
        asked.append("recorded")
        with graph:
            yield

    @contextmanager
    def aside(stream: object) -> Iterator[None]:
        asked.append("aside")
        yield

    for name, fake in [("CUDAGraph", Graph), ("graph", recording), ("stream", aside)]:
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "Stream", mock.Mock)
    monkeypatch.setattr(torch.cuda, "current_stream", mock.Mock)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: asked.append("stream set back"))
    return asked


def test_a_few_steps_are_made_as_they_are_then_one_is_recorded_and_replayed(gpu):
    seen = []
    add = GraphedStep(lambda: seen.append(torch.ones(2).add_(1)), torch.Generator())
    for _ in range(WARM_UP + 3):
        add()
    assert gpu == [*["aside"] * WARM_UP, "registered", "recorded", *["replayed"] * 3]
    assert len(seen) == WARM_UP + 1


def recorded(made: Trainer) -> Trainer:
    """As it would be on a GPU."""
    made._run = GraphedStep(made._step_on_device, made._random)
    return made


def test_a_gpu_that_refuses_is_told_of_once_and_the_training_is_the_same(gpu, monkeypatch, capsys):
    @contextmanager
    def refused(graph: object, **_: object) -> Iterator[None]:
        yield
        raise RuntimeError("operation not permitted\nand much more")

    def work_that_is_not_done(self: Trainer) -> None:
        """A recording runs the code, which leaves gradients behind, but no work on the device."""
        for weight in self.generator.parameters():
            weight.grad = torch.full_like(weight, 1e3)

    monkeypatch.setattr(torch.cuda, "graph", refused)
    straight, tried = trainer(), recorded(trainer())
    body = tried._step_on_device
    for step in range(WARM_UP + 3):
        straight.step()
        if step == WARM_UP:
            tried._run._function = lambda: work_that_is_not_done(tried)
        tried.step()
    assert tried._run == body
    assert_equal(tried.state(), straight.state())
    assert capsys.readouterr().err == "note: no CUDA graph, which costs speed: operation not permitted\n"


def test_after_going_back_or_loading_it_is_recorded_anew(monkeypatch):
    """The learning rate is then another, the optimizers' state is elsewhere."""
    tried = trainer()
    tried.cuda_graph = True
    monkeypatch.setattr("gan.trainer.FiniteCheck", mock.Mock())
    made = []
    monkeypatch.setattr("gan.trainer.GraphedStep", lambda *given: made.append(given) or len(made))
    for times in (1, 2):
        tried.apply_rollback(Rollback(times))
        assert tried._run == times
    tried.cuda_graph = False
    tried.apply_rollback(Rollback(3))
    assert tried._run == tried._step_on_device


def test_a_refused_recording_has_the_first_line_of_its_reason(gpu, monkeypatch):
    def failing() -> None:
        if gpu[-1] == "recorded":
            raise RuntimeError("no\nand why")

    tried = GraphedStep(failing, torch.Generator())
    for _ in range(WARM_UP):
        tried()
    with pytest.raises(CaptureError, match=r"^no$"):
        tried()
    assert gpu[-1] == "stream set back"
