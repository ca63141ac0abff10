"""The training loop with a network of one number: what it logs, scores, saves and resumes from."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from engine.best import BestTracker
from engine.checkpoint import load
from engine.errors import UserError
from engine.finite import DivergedError
from engine.png import load_png
from engine.run_logger import RunLogger
from engine.runs import best_path, checkpoints, sample_grids, step_of
from engine.settings import TrainingSettings
from faces.loop import SupervisedLoop
from faces.updater import Updater, decayed_parameters, make_optimizer, warmup_cosine_schedule
from tests.run_contents import read_metrics
from tests.states import assert_equal

SETTINGS = TrainingSettings(
    steps=12, batch_size=4, log_every=3, sample_every=6, score_every=4, checkpoint_every=5, keep=9
)


def optimizer(kind, network: torch.nn.Module, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    weights = list(network.parameters())
    return make_optimizer(kind, weights, decayed_parameters(weights), weight_decay)


class Line:
    """Learns y = 3 x from points that follow from the step."""

    ranked_by = "score/error"
    weights = ("network", "average")

    def __init__(self, settings: TrainingSettings = SETTINGS) -> None:
        self.settings = settings
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            network = torch.nn.Linear(1, 1)
        self.updater = Updater(
            network, optimizer("adamw", network), warmup_cosine_schedule(0.3, settings.steps), 20
        )
        self.during = lambda: None
        self.told: list[float] = []

    @property
    def step_count(self) -> int:
        return self.updater.step_count

    def step(self) -> None:
        x = torch.randn(4, 1, generator=torch.Generator().manual_seed(self.step_count))
        self.during()
        self.updater.update((self.updater.network(x) - 3 * x).square().mean(), 4)

    def check_finite(self) -> None:
        self.updater.check_finite()

    def statistics(self) -> dict[str, float]:
        return self.updater.statistics()

    def scores(self) -> dict[str, float]:
        if self.told:
            return {"score/error": self.told.pop(0)}
        return {"score/error": float((self.updater.evaluation_network([]).weight - 3).abs())}

    def picture(self) -> np.ndarray:
        return np.full((3, 8, 18), self.step_count, np.uint8)

    def networks(self) -> dict[str, torch.nn.Module]:
        return {"line": self.updater.network}

    def state(self) -> dict:
        return self.updater.state([])

    def load_state(self, state: dict) -> None:
        self.updater.load_state(state)


def sitting(run, learner: Line, best: BestTracker | None = None):
    logger = RunLogger(run, learner.step_count)
    try:
        return SupervisedLoop(learner, logger, best or BestTracker(smoothed=1)).train()
    finally:
        logger.close()


def test_what_is_due_is_done(tmp_path):
    learner, best = Line(), BestTracker(smoothed=1)
    outcome = sitting(tmp_path, learner, best)
    assert (outcome.step, outcome.exit_code) == (12, 0)
    assert outcome.checkpoint == checkpoints(tmp_path)[-1]
    assert [step_of(path) for path in sample_grids(tmp_path)] == [0, 6, 12]
    assert load_png(sample_grids(tmp_path)[1])[0, 0, 0] == 6
    logged = {line["step"]: line for line in read_metrics(tmp_path)}
    assert list(logged) == [3, 4, 6, 8, 9, 12]
    assert "score/error" in logged[4]
    assert "loss/training" not in logged[4]
    assert {"loss/training", "gradient/norm", "rate/learning", "score/error"} <= logged[12].keys()
    assert logged[12]["score/error"] < logged[4]["score/error"]
    assert {5, 10, 12} <= {step_of(path) for path in checkpoints(tmp_path)}
    assert best.step == 12
    assert load(best_path(tmp_path))["step"] == 12


def test_the_best_is_kept_and_a_worse_one_is_not(tmp_path):
    learner = Line()
    learner.told = [0.5, 0.1, 9.0]
    sitting(tmp_path, learner)
    assert load(best_path(tmp_path))["step"] == 8


@pytest.mark.parametrize("end", [4, 7])
def test_a_sitting_that_was_killed_goes_on_bit_for_bit(tmp_path, end):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for run in (straight, stopped):
        run.mkdir()
    sitting(straight, Line())
    learner, best = Line(), BestTracker(smoothed=1)

    def die() -> None:
        if learner.step_count == end:
            raise KeyboardInterrupt

    learner.during = die
    with pytest.raises(KeyboardInterrupt):
        sitting(stopped, learner, best)
    again, best = Line(), BestTracker(smoothed=1)
    saved = checkpoints(stopped)
    if saved:
        state = load(saved[-1], mapped=False)
        again.load_state(state)
        best.load_state(state["best"])
    sitting(stopped, again, best)
    assert_equal(load(checkpoints(straight)[-1]), load(checkpoints(stopped)[-1]))
    assert_equal(load(best_path(straight)), load(best_path(stopped)))
    assert read_metrics(straight) == read_metrics(stopped)
    assert [path.name for path in sample_grids(straight)] == [path.name for path in sample_grids(stopped)]


def test_a_signal_finishes_the_step_and_saves_it_out_of_turn(tmp_path):
    learner = Line()
    learner.during = lambda: learner.step_count == 6 and signal.raise_signal(signal.SIGTERM)
    outcome = sitting(tmp_path, learner)
    assert (outcome.step, outcome.exit_code) == (7, 143)
    assert step_of(outcome.checkpoint) == 7
    assert [line["step"] for line in read_metrics(tmp_path)] == [3, 4, 6]
    straight = tmp_path / "straight"
    straight.mkdir()
    sitting(straight, Line())
    again, best = Line(), BestTracker(smoothed=1)
    state = load(outcome.checkpoint, mapped=False)
    again.load_state(state)
    best.load_state(state["best"])
    sitting(tmp_path, again, best)
    assert read_metrics(tmp_path) == read_metrics(straight)
    assert_equal(load(checkpoints(straight)[-1]), load(checkpoints(tmp_path)[-1]))


def test_minutes_end_a_sitting_and_not_the_schedule(tmp_path):
    learner = Line(replace(SETTINGS, minutes=1e-6, steps=100))
    assert sitting(tmp_path, learner).step == 1
    assert warmup_cosine_schedule(0.3, 100)(0) == pytest.approx(0.3 / 5)


def test_a_value_that_is_not_finite_ends_it_and_is_never_saved(tmp_path):
    learner = Line()

    def poison() -> None:
        if learner.step_count == 6:
            with torch.no_grad():
                learner.updater.network.weight.fill_(float("nan"))

    learner.during = poison
    with pytest.raises(DivergedError, match="step 7"):
        sitting(tmp_path, learner)
    assert max(step_of(path) for path in checkpoints(tmp_path)) <= 6


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    with pytest.raises(UserError, match="cannot be written to: No space left"):
        sitting(tmp_path, Line())


def test_the_rate_rises_and_falls_to_nothing():
    rate = warmup_cosine_schedule(0.2, 100)
    assert [rate(0), rate(4), rate(5)] == pytest.approx([0.04, 0.2, 0.2])
    assert rate(5 + 95 / 2 - 0.5) == pytest.approx(0.1, rel=0.02)
    assert rate(100) == pytest.approx(0)
    assert rate(200) == pytest.approx(0)
    assert warmup_cosine_schedule(0.2, 1)(0) == 0.2


def test_sgd_by_hand():
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1.0)
    updater = Updater(network, optimizer("sgd", network), lambda step: 0.1, 0)
    for expected in (1 - 0.1, 1 - 0.1 - 0.1 * 1.9):  # the gradient is 1, the momentum 0.9
        updater.update(network(torch.ones(1, 1)).sum(), 1, nme__training=torch.tensor(0.5))
        assert network.weight.item() == pytest.approx(expected)
    told = updater.statistics()
    assert told["loss/training"] == pytest.approx((1 + 0.9) / 2)
    assert told["gradient/norm"] == pytest.approx(1)
    assert told["nme/training"] == 0.5
    assert updater.evaluation_network([]) is network


def test_going_on_takes_the_weight_decay_of_the_settings():
    network = torch.nn.Linear(1, 1)
    updaters = [
        Updater(network, optimizer("adamw", network, decay), lambda step: 0.1, 0) for decay in (0, 0.5)
    ]
    updaters[0].update(network(torch.ones(1, 1)).sum() * 0, 1)
    before = network.weight.clone()
    updaters[1].load_state({**updaters[0].state([]), "step": 1})
    updaters[1].update(network(torch.ones(1, 1)).sum() * 0, 1)
    torch.testing.assert_close(network.weight, before * (1 - 0.1 * 0.5))


def test_biases_and_norms_do_not_decay():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    before = [weight.clone() for weight in network.parameters()]
    updater = Updater(network, optimizer("adamw", network, 0.5), lambda step: 0.1, 0)
    updater.update(sum(weight.sum() * 0 for weight in network.parameters()), 1)
    kept = [torch.equal(weight, old) for weight, old in zip(network.parameters(), before, strict=True)]
    assert kept == [False, True, True, True]
