"""What a GPU has to prove: that it trains as a CPU does, with and without a graph, and shows the same faces.

Without one all of it is skipped, and where this file is not named: tests/conftest.py tells why. `REHEARSE=1`
goes through it on the CPU, where a step is never recorded, so that at least the tests themselves are tried.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoint import load
from engine.cuda_graph import WARM_UP, GraphedStep
from engine.device import exact_float32
from engine.ema import estimate_batch_norm_statistics
from engine.finite import DivergedError
from engine.runs import checkpoint_path
from gan.generator import load_generator
from gan.latent.vectors import draw
from gan.metrics.features import extract, random_space
from gan.networks import Generator
from gan.rollback import Rollback
from gan.trainer import Trainer
from gan.training_step import STATISTICS, Batch
from gan.validation import Validator
from tests.in_process import call
from tests.run_contents import lines, newest
from tests.small_trainer import IMAGES, trainer, weights

REHEARSED = os.environ.get("REHEARSE") == "1"
DEVICE = torch.device("cpu" if REHEARSED else "cuda")
CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(
    not REHEARSED and not torch.cuda.is_available(), reason="no CUDA device, or this file is not named"
)

STEPS = WARM_UP + 5
"""Of which the last five are replayed, one just after it was recorded."""
FORMS = {
    "default": {},
    "batch norm": {"normalisation": "batch"},
    "plain": {"plain": True},
}
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}
"""Relative, of losses after a few steps: sums on a GPU may be taken in another order each time, and Adam
makes whole steps of gradients that are all but 0."""


@pytest.fixture(autouse=True)
def _flags_as_they_were() -> Iterator[None]:
    """A training of the script sets it for its process."""
    before = torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.benchmark = before


@pytest.fixture
def no_tf32() -> Iterator[None]:
    """Or two trainings might differ by it: some of cuDNN's algorithms round to it, and it times them anew."""
    with exact_float32():
        yield


def on_device(**changes) -> Trainer:
    return trainer(device=DEVICE, **changes)


def moved_by(made: Trainer, steps: int = STEPS) -> Trainer:
    for _ in range(steps):
        made.step()
    return made


def recorded(made: Trainer) -> bool:
    """Whether a graph was recorded, and not refused."""
    return isinstance(made._run, GraphedStep) and made._run._graph is not None


def mean_distance(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    """Of two sets of weights."""
    pairs = zip(some, others, strict=True)
    return float(torch.cat([(one.cpu() - other.cpu()).abs().flatten() for one, other in pairs]).mean())


def assert_near(values: dict[str, float], others: dict[str, float], precision: str) -> None:
    """Fail unless losses, probabilities and gradients are alike; accuracies go by whole images."""
    assert values.keys() == others.keys()
    for name in STATISTICS:
        if not name.startswith("accuracy"):
            assert values[name] == pytest.approx(others[name], rel=TOLERANCE[precision], abs=1e-5), name


def assert_same_training(one: Trainer, other: Trainer, precision: str = "float32") -> None:
    """Fail unless two trainers from one seed have gone the same way, by the same random numbers."""
    assert_near(one.statistics(), other.statistics(), precision)
    begun = weights(trainer(seed=one.settings.seed, normalisation=one.settings.normalisation))
    way = mean_distance(weights(one), begun)
    assert way > 0
    assert mean_distance(weights(one), weights(other)) < 0.05 * way


@pytest.mark.usefixtures("no_tf32")
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("form", FORMS)
def test_a_graph_makes_the_steps_that_calls_make(form, precision):
    options = FORMS[form] | {"precision": precision, "seed": 1}
    called, replayed = moved_by(on_device(cuda_graph=False, **options)), moved_by(on_device(**options))
    assert not recorded(called)
    assert recorded(replayed) or REHEARSED
    assert_same_training(replayed, called, precision)


def given_batch(made: Trainer) -> Batch:
    """The same for every device, whose own random numbers differ."""
    random = torch.Generator().manual_seed(5)
    count, size = made.settings.batch_size, made.settings.latent_size
    columns, negatives = made._augment.numbers_per_image, made._negatives
    parts = [
        torch.rand(count, 3, 32, 32, generator=random) * 2 - 1,
        torch.rand(count, size, generator=random) * 2 - 1,
        *(torch.rand(count, columns, generator=random) for _ in range(2)),
        torch.rand(negatives, 3, 32, 32, generator=random) * 2 - 1,
        torch.rand(negatives, columns, generator=random),
    ]
    return Batch(*(part.to(made.device) for part in parts))


@pytest.mark.parametrize("form", FORMS)
def test_a_step_has_the_losses_and_gradients_of_the_cpu(form):
    found = []
    for made in (on_device(**FORMS[form]), trainer(**FORMS[form])):
        with exact_float32():
            values = made._training_step(given_batch(made))
        networks = made.networks().values()
        gradients = [weight.grad.cpu() for network in networks for weight in network.parameters()]
        found.append((dict(zip(STATISTICS, values.tolist(), strict=True)), gradients))
    (values, gradients), (true_values, true_gradients) = found
    assert_near(values, true_values, "float32")
    for gradient, true in zip(gradients, true_gradients, strict=True):
        # A value beside 0 may fall to the other side of a ReLU.
        assert float((gradient - true).norm() / true.norm().clamp(min=1e-8)) < 1e-2


def step_without_graph(made: Trainer, step=Trainer.step) -> None:
    made._run = made._step_on_device
    step(made)


def final_weights(run: Path, step: int) -> list[torch.Tensor]:
    state = load(checkpoint_path(run, step), mapped=False)
    return [weight for name, weight in state["generator"].items() if name.endswith("weight")]


@pytest.mark.usefixtures("no_tf32")
@pytest.mark.parametrize("precision", TOLERANCE)
def test_the_script_trains_with_and_without_a_graph_and_goes_on(
    pictures, train, monkeypatch, capsys, precision
):
    made: list[GraphedStep] = []

    class Watched(GraphedStep):
        def __init__(self, *given) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr("gan.trainer.GraphedStep", Watched)
    words = (pictures, "--device", DEVICE.type, "--precision", precision, "--checkpoint-every", 4)
    ways = {
        "graph": ("--steps", 2 * STEPS),
        "calls": ("--steps", 2 * STEPS),
        "stopped": ("--steps", STEPS),
    }
    runs = {}
    for way, more in ways.items():
        with monkeypatch.context() as patched:
            if way == "calls":
                patched.setattr(Trainer, "step", step_without_graph)
            assert train(*words, *more, "--name", way) == 0
        runs[way] = newest()
    assert train("--resume", "--steps", 2 * STEPS) == 0
    assert "no CUDA graph" not in capsys.readouterr().err
    # That with the graph, the stopped one, and that which went on.
    assert sum(watched._graph is not None for watched in made) == (0 if REHEARSED else 3)
    assert torch.backends.cudnn.benchmark or REHEARSED
    way = mean_distance(final_weights(runs["graph"], 2 * STEPS), final_weights(runs["graph"], STEPS))
    for other in ("calls", "stopped"):
        told = zip(lines(runs["graph"]), lines(runs[other]), strict=True)
        for line, line_of_other in told:
            assert_near(line, line_of_other, precision)
        distance = mean_distance(*(final_weights(runs[name], 2 * STEPS) for name in ("graph", other)))
        # In bfloat16 another algorithm of cuDNN's is another sign of many a small step of Adam's.
        assert distance < (0.1 if precision == "float32" else 0.3) * way


def test_a_value_that_is_not_finite_is_found_in_a_replayed_step():
    made = moved_by(on_device())
    made.check_finite()
    with torch.no_grad():
        made.generator.project.weight[0, 0] = float("nan")
    moved_by(made, 3)
    assert recorded(made) or REHEARSED
    with pytest.raises(DivergedError, match=rf"at step {STEPS + 1}$"):
        made.check_finite()


@pytest.mark.usefixtures("no_tf32")
def test_after_going_back_a_new_graph_makes_the_steps_that_calls_make():
    called, replayed = moved_by(on_device(cuda_graph=False)), moved_by(on_device())
    for made in (called, replayed):
        first = made._run
        state = copy.deepcopy(made.state()) | {"step": STEPS}
        moved_by(made, 2)
        made.roll_back(Rollback(1, STEPS), state)
        made.statistics()
        moved_by(made)
        assert made._run is not first or made is called or REHEARSED
        assert made.step_count == 2 * STEPS
    assert recorded(replayed) or REHEARSED
    assert_same_training(replayed, called)


@pytest.mark.usefixtures("no_tf32")
def test_the_data_set_is_held_on_the_device_where_there_is_room(monkeypatch):
    held = moved_by(on_device())
    monkeypatch.setattr("gan.trainer.DEVICE_SHARE", 0.0)
    given = moved_by(on_device())
    assert given._images_on_device is None
    if not REHEARSED:
        assert held._images_on_device.device.type == "cuda"
        assert np.array_equal(held._images_on_device.cpu().numpy(), IMAGES)
        assert recorded(held)
        assert recorded(given)
    assert_same_training(held, given)


def levels_apart(some: np.ndarray, others: np.ndarray) -> int:
    return int(np.abs(some.astype(int) - others).max())


def test_faces_are_those_of_the_cpu_within_a_level(tiny_run):
    z = draw(40, 100, 0)
    there, here = (load_generator(tiny_run, device=device.type) for device in (DEVICE, CPU))
    assert next(there.network.parameters()).device.type == DEVICE.type
    assert levels_apart(there.images(z), here.images(z)) <= 1
    # With the average's batch norms estimated on either device.
    assert levels_apart(on_device().samples(), trainer().samples()) <= 1


def test_faces_of_full_size_are_those_of_the_cpu_within_a_level():
    torch.manual_seed(0)
    generator, latents = Generator((250, 150, 90, 54)), torch.from_numpy(draw(8, 100, 0))
    estimate_batch_norm_statistics(generator, [latents])
    images = []
    for made in (on_device(ema_half_life=0.0), trainer(ema_half_life=0.0)):
        made.generator = generator.to(made.device, memory_format=torch.channels_last)
        images.append(made.generate(latents))
    assert images[0].std() > 10
    assert levels_apart(*images) <= 1


def test_features_and_scores_are_those_of_the_cpu():
    features = [extract(random_space(device=device), IMAGES) for device in (DEVICE, CPU)]
    assert {found.device.type for found in features} == {"cpu"}
    assert float((features[0] - features[1]).norm() / features[1].norm()) < 1e-3
    held = np.arange(len(IMAGES)) < 20
    there, here = (
        Validator(IMAGES, held, made.device).scores(made) for made in (on_device(seed=2), trainer(seed=2))
    )
    assert there == pytest.approx(here, rel=0.02, abs=0.02)


def test_a_run_of_the_cpu_is_evaluated_on_the_device(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = [
        call("evaluate.py", tiny_run, "--device", device.type, "--k", 3, "--draws", 2)
        for device in (DEVICE, CPU)
    ]
    assert [each.code for each in told] == [0, 0]
    rows = [[line.split()[:2] for line in each.lines if "±" in line] for each in told]
    assert rows[0] == rows[1]
