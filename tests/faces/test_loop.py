"""The training loop with a network of one number: what it logs, scores, saves and resumes from."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from engine.best import BestTracker
from engine.budget import TrainingResult
from engine.checkpoint import load
from engine.errors import UserError
from engine.finite import DivergedError
from engine.png import load_png
from engine.run_logger import RunLogger
from engine.runs import best_path, checkpoints, sample_grids, step_of
from engine.settings import TrainingSettings
from faces.loop import SupervisedLoop, SupervisedTrainer
from faces.updater import Updater, decayed_parameters, make_optimizer, warmup_cosine_schedule
from tests.run_contents import read_metrics
from tests.states import assert_equal

SETTINGS = TrainingSettings(
    steps=12, batch_size=4, log_every=3, sample_every=6, score_every=4, checkpoint_every=5, keep=9
)


def optimizer(name, network: torch.nn.Module, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    weights = list(network.parameters())
    return make_optimizer(name, weights, decayed_parameters(weights), weight_decay)


class LineTrainer(SupervisedTrainer):
    """Learns y = 3 x from points that depend on the step alone."""

    ranked_by = "score/error"
    outlook = "normal: 0"

    def __init__(self, settings: TrainingSettings = SETTINGS) -> None:
        self.settings = settings
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            network = torch.nn.Linear(1, 1)
        rate = warmup_cosine_schedule(0.3, settings.steps)
        self.updater = Updater(network, optimizer("adamw", network), rate, 20)
        self.during_step = lambda: None
        self.fake_errors: list[float] = []

    def step(self) -> None:
        x = torch.randn(4, 1, generator=torch.Generator().manual_seed(self.step_count))
        self.during_step()
        self.updater.update((self.network(x) - 3 * x).square().mean(), 4)

    def scores(self) -> dict[str, float]:
        if self.fake_errors:
            return {"score/error": self.fake_errors.pop(0)}
        return {"score/error": float((self.updater.evaluation_network([]).weight - 3).abs())}

    def picture(self) -> np.ndarray:
        return np.full((3, 8, 18), self.step_count, np.uint8)

    def networks(self) -> dict[str, torch.nn.Module]:
        return {"line": self.network}

    def state(self) -> dict:
        return self.updater.state([])

    def load_state(self, state: dict) -> None:
        self.updater.load_state(state)


def train(run: Path, trainer: LineTrainer, best: BestTracker | None = None) -> TrainingResult:
    run.mkdir(exist_ok=True)
    logger = RunLogger(run, trainer.step_count)
    try:
        return SupervisedLoop(trainer, logger, best or BestTracker(smoothed=1)).train()
    finally:
        logger.close()


def resume(run: Path) -> None:
    trainer, best = LineTrainer(), BestTracker(smoothed=1)
    if saved := checkpoints(run):
        state = load(saved[-1], mapped=False)
        trainer.load_state(state)
        best.load_state(state["best"])
    train(run, trainer, best)


def test_logs_samples_scores_and_checkpoints(tmp_path):
    trainer, best = LineTrainer(), BestTracker(smoothed=1)
    result = train(tmp_path, trainer, best)
    assert (result.step, result.exit_code) == (12, 0)
    assert result.checkpoint == checkpoints(tmp_path)[-1]
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


def test_best_checkpoint_is_kept(tmp_path):
    trainer = LineTrainer()
    trainer.fake_errors = [0.5, 0.1, 9.0]
    train(tmp_path, trainer)
    assert load(best_path(tmp_path))["step"] == 8


@pytest.mark.parametrize("end", [4, 7])
def test_killed_run_resumes_bit_for_bit(tmp_path, end):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train(straight, LineTrainer())
    trainer = LineTrainer()

    def die() -> None:
        if trainer.step_count == end:
            raise KeyboardInterrupt

    trainer.during_step = die
    with pytest.raises(KeyboardInterrupt):
        train(killed, trainer)
    resume(killed)
    assert_equal(load(checkpoints(straight)[-1]), load(checkpoints(killed)[-1]))
    assert_equal(load(best_path(straight)), load(best_path(killed)))
    assert read_metrics(straight) == read_metrics(killed)
    assert [path.name for path in sample_grids(straight)] == [path.name for path in sample_grids(killed)]


def test_signal_ends_training_after_the_step_and_saves_it(tmp_path):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    trainer = LineTrainer()
    trainer.during_step = lambda: trainer.step_count == 6 and signal.raise_signal(signal.SIGTERM)
    result = train(stopped, trainer)
    assert (result.step, result.exit_code) == (7, 143)
    assert step_of(result.checkpoint) == 7
    assert [line["step"] for line in read_metrics(stopped)] == [3, 4, 6]
    train(straight, LineTrainer())
    resume(stopped)
    assert read_metrics(stopped) == read_metrics(straight)
    assert_equal(load(checkpoints(straight)[-1]), load(checkpoints(stopped)[-1]))


def test_minutes_end_training(tmp_path):
    assert train(tmp_path, LineTrainer(replace(SETTINGS, minutes=1e-6, steps=100))).step == 1


def test_weights_that_are_not_finite_end_training_and_are_not_saved(tmp_path):
    trainer = LineTrainer()

    def poison() -> None:
        if trainer.step_count == 6:
            with torch.no_grad():
                trainer.network.weight.fill_(float("nan"))

    trainer.during_step = poison
    with pytest.raises(DivergedError, match="step 7"):
        train(tmp_path, trainer)
    assert max(step_of(path) for path in checkpoints(tmp_path)) <= 6


def test_full_disk_is_a_user_error(tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    with pytest.raises(UserError, match="cannot be written to: No space left"):
        train(tmp_path, LineTrainer())


def test_warmup_cosine_schedule_by_hand():
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
    statistics = updater.statistics()
    assert statistics["loss/training"] == pytest.approx((1 + 0.9) / 2)
    assert statistics["gradient/norm"] == pytest.approx(1)
    assert statistics["nme/training"] == 0.5
    assert updater.evaluation_network([]) is network


def test_resuming_uses_the_weight_decay_of_the_settings():
    network = torch.nn.Linear(1, 1)
    updaters = [
        Updater(network, optimizer("adamw", network, decay), lambda step: 0.1, 0) for decay in (0, 0.5)
    ]
    updaters[0].update(network(torch.ones(1, 1)).sum() * 0, 1)
    before = network.weight.clone()
    updaters[1].load_state({**updaters[0].state([]), "step": 1})
    updaters[1].update(network(torch.ones(1, 1)).sum() * 0, 1)
    torch.testing.assert_close(network.weight, before * (1 - 0.1 * 0.5))


def test_biases_and_norms_have_no_weight_decay():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    before = [weight.clone() for weight in network.parameters()]
    updater = Updater(network, optimizer("adamw", network, 0.5), lambda step: 0.1, 0)
    updater.update(sum(weight.sum() * 0 for weight in network.parameters()), 1)
    unchanged = [torch.equal(weight, old) for weight, old in zip(network.parameters(), before, strict=True)]
    assert unchanged == [False, True, True, True]
