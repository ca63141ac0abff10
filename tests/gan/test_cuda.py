"""A GPU trains as the CPU does, with and without a CUDA graph, and generates the same faces.

Name this file to run it (see tests/conftest.py); without a GPU it is skipped. `REHEARSE=1` runs it on the
CPU, without graphs, to test the tests.
"""

from __future__ import annotations

import copy
import json
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
from tests.run_contents import newest_run, read_metrics
from tests.small_trainer import CPU, IMAGES, relative_error, set_weight, trainer, weights

REHEARSAL = os.environ.get("REHEARSE") == "1"
DEVICE = torch.device("cpu" if REHEARSAL else "cuda")

pytestmark = pytest.mark.skipif(
    not REHEARSAL and not torch.cuda.is_available(), reason="no CUDA device, or this file is not named"
)

STEPS = WARM_UP + 5
"""The last five are replayed."""
VARIANTS = {
    "default": {},
    "batch norm": {"normalisation": "batch"},
    "textbook": {"textbook": True},
}
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}
"""Relative, of losses after a few steps: the order of sums on a GPU may vary, and Adam takes full steps for
gradients that are almost 0."""


@pytest.fixture(autouse=True)
def _restored_flags() -> Iterator[None]:
    """The script enables cuDNN's benchmark for its process."""
    before = torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.benchmark = before


@pytest.fixture
def no_tf32() -> Iterator[None]:
    """Some of cuDNN's algorithms round to TF32, and two runs might choose different ones."""
    with exact_float32():
        yield


def on_device(**changes) -> Trainer:
    return trainer(device=DEVICE, **changes)


def train_steps(made: Trainer, steps: int = STEPS) -> Trainer:
    for _ in range(steps):
        made.step()
    return made


def is_graphed(made: Trainer) -> bool:
    """Whether a step was recorded as a CUDA graph."""
    return isinstance(made._run, GraphedStep) and made._run._graph is not None


def mean_distance(left: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    """The mean distance between the values of two lists of weights."""
    differences = [(a.cpu() - b.cpu()).abs().flatten() for a, b in zip(left, right, strict=True)]
    return float(torch.cat(differences).mean())


def assert_close_statistics(left: dict[str, float], right: dict[str, float], precision: str) -> None:
    """Fail unless losses, probabilities and gradient norms agree; accuracies count whole images."""
    assert left.keys() == right.keys()
    for name in STATISTICS:
        if not name.startswith("accuracy"):
            assert left[name] == pytest.approx(right[name], rel=TOLERANCE[precision], abs=1e-5), name


def assert_close_trainers(left: Trainer, right: Trainer, precision: str = "float32") -> None:
    """Fail unless two trainers with equal random numbers ended close to each other."""
    assert_close_statistics(left.statistics(), right.statistics(), precision)
    initial = weights(Trainer(left.settings, IMAGES, CPU))
    moved = mean_distance(weights(left), initial)
    assert moved > 0
    assert mean_distance(weights(left), weights(right)) < 0.05 * moved


@pytest.mark.usefixtures("no_tf32")
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_graph_takes_the_same_steps(variant, precision):
    options = VARIANTS[variant] | {"precision": precision, "seed": 1}
    eager, graphed = train_steps(on_device(cuda_graph=False, **options)), train_steps(on_device(**options))
    assert not is_graphed(eager)
    assert is_graphed(graphed) or REHEARSAL
    assert_close_trainers(graphed, eager, precision)


def fixed_batch(made: Trainer) -> Batch:
    """The same batch on every device; the devices' own random numbers differ."""
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_has_the_losses_and_gradients_of_the_cpu(variant):
    results = []
    for made in (on_device(**VARIANTS[variant]), trainer(**VARIANTS[variant])):
        with exact_float32():
            values = made._training_step(fixed_batch(made))
        networks = made.networks().values()
        gradients = [weight.grad.cpu() for network in networks for weight in network.parameters()]
        results.append((dict(zip(STATISTICS, values.tolist(), strict=True)), gradients))
    (values, gradients), (true_values, true_gradients) = results
    assert_close_statistics(values, true_values, "float32")
    for gradient, true in zip(gradients, true_gradients, strict=True):
        # A value close to 0 may be on the other side of a ReLU's kink.
        assert float((gradient - true).norm() / true.norm().clamp(min=1e-8)) < 1e-2


def step_without_graph(made: Trainer, step=Trainer.step) -> None:
    made._run = made._step_on_device
    step(made)


def generator_weights(run: Path, step: int) -> list[torch.Tensor]:
    state = load(checkpoint_path(run, step), mapped=False)
    return [weight for name, weight in state["generator"].items() if name.endswith("weight")]


@pytest.mark.usefixtures("no_tf32")
@pytest.mark.parametrize("precision", TOLERANCE)
def test_the_script_trains_and_resumes_with_and_without_a_graph(
    pictures, train, monkeypatch, capsys, precision
):
    graphs: list[GraphedStep] = []

    class RecordingStep(GraphedStep):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            graphs.append(self)

    monkeypatch.setattr("gan.trainer.GraphedStep", RecordingStep)
    argv = (pictures, "--device", DEVICE.type, "--precision", precision, "--checkpoint-every", 4)
    runs = {}
    for name, steps in (("graphed", 2 * STEPS), ("eager", 2 * STEPS), ("resumed", STEPS)):
        with monkeypatch.context() as patched:
            if name == "eager":
                patched.setattr(Trainer, "step", step_without_graph)
            assert train(*argv, "--steps", steps, "--name", name) == 0
        runs[name] = newest_run()
    assert train("--resume", "--steps", 2 * STEPS) == 0
    assert "no CUDA graph" not in capsys.readouterr().err
    # In the graphed run, and in the resumed one before and after.
    assert sum(graph._graph is not None for graph in graphs) == (0 if REHEARSAL else 3)
    assert torch.backends.cudnn.benchmark or REHEARSAL
    graphed = runs["graphed"]
    moved = mean_distance(generator_weights(graphed, 2 * STEPS), generator_weights(graphed, STEPS))
    for name in ("eager", "resumed"):
        for lines in zip(read_metrics(graphed), read_metrics(runs[name]), strict=True):
            assert_close_statistics(*lines, precision)
        distance = mean_distance(*(generator_weights(run, 2 * STEPS) for run in (graphed, runs[name])))
        # In bfloat16, another of cuDNN's algorithms changes the sign of many of Adam's small steps.
        assert distance < (0.1 if precision == "float32" else 0.3) * moved


def test_a_value_that_is_not_finite_is_noticed_in_a_replayed_step():
    made = train_steps(on_device())
    made.check_finite()
    set_weight(made.generator.project.weight, float("nan"))
    train_steps(made, 3)
    assert is_graphed(made) or REHEARSAL
    with pytest.raises(DivergedError, match=rf"at step {STEPS + 1}$"):
        made.check_finite()


@pytest.mark.usefixtures("no_tf32")
def test_a_rollback_records_a_new_graph_that_takes_the_same_steps():
    eager, graphed = train_steps(on_device(cuda_graph=False)), train_steps(on_device())
    for made in (eager, graphed):
        first = made._run
        state = copy.deepcopy(made.state()) | {"step": STEPS}
        train_steps(made, 2)
        made.roll_back(Rollback(1, STEPS), state)
        made.statistics()
        train_steps(made)
        assert made._run is not first or made is eager or REHEARSAL
        assert made.step_count == 2 * STEPS
    assert is_graphed(graphed) or REHEARSAL
    assert_close_trainers(graphed, eager)


@pytest.mark.usefixtures("no_tf32")
def test_a_data_set_on_the_device_and_one_in_memory_give_the_same_networks(monkeypatch):
    on_gpu = train_steps(on_device())
    monkeypatch.setattr("gan.trainer.DEVICE_SHARE", 0.0)
    in_memory = train_steps(on_device())
    assert in_memory._images_on_device is None
    if not REHEARSAL:
        assert on_gpu._images_on_device.device.type == "cuda"
        assert np.array_equal(on_gpu._images_on_device.cpu().numpy(), IMAGES)
        assert is_graphed(on_gpu)
        assert is_graphed(in_memory)
    assert_close_trainers(on_gpu, in_memory)


def max_difference(left: np.ndarray, right: np.ndarray) -> int:
    return int(np.abs(left.astype(int) - right).max())


def test_samples_equal_those_of_the_cpu_within_one_level(tiny_run):
    z = draw(40, 100, 0)
    on_gpu, on_cpu = (load_generator(tiny_run, device=device.type) for device in (DEVICE, CPU))
    assert next(on_gpu.network.parameters()).device.type == DEVICE.type
    assert max_difference(on_gpu.images(z), on_cpu.images(z)) <= 1
    # Each device estimates the average's batch-norm statistics.
    assert max_difference(on_device().samples(), trainer().samples()) <= 1


def test_samples_of_the_full_size_equal_those_of_the_cpu_within_one_level():
    torch.manual_seed(0)
    generator, latents = Generator((250, 150, 90, 54)), torch.from_numpy(draw(8, 100, 0))
    estimate_batch_norm_statistics(generator, [latents])
    images = []
    for made in (on_device(ema_half_life=0.0), trainer(ema_half_life=0.0)):
        made.generator = generator.to(made.device, memory_format=torch.channels_last)
        images.append(made.generate(latents))
    assert images[0].std() > 10
    assert max_difference(*images) <= 1


def test_features_and_scores_equal_those_of_the_cpu():
    features = [extract(random_space(device=device), IMAGES) for device in (DEVICE, CPU)]
    assert {each.device.type for each in features} == {"cpu"}
    assert relative_error(*features) < 1e-3
    held_out = np.arange(len(IMAGES)) < 20
    scores = [
        Validator(IMAGES, held_out, made.device).scores(made) for made in (on_device(seed=2), trainer(seed=2))
    ]
    assert scores[0] == pytest.approx(scores[1], rel=0.02, abs=0.02)


def test_a_run_of_the_cpu_is_evaluated_on_the_device(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = []
    for device in (DEVICE, CPU):
        ended = call("evaluate.py", tiny_run, "--device", device.type, "--k", 3, "--draws", 2)
        assert ended.code == 0
        report = json.loads(Path(ended.lines[-1]).read_text())
        scores.append(report["scores"]["random"]["KID"]["score"])
    assert scores[0] == pytest.approx(scores[1], rel=0.02, abs=0.02)
