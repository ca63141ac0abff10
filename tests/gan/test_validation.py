"""Scores of a run: that they see what they are there to see, and leave the training alone."""

from __future__ import annotations

import numpy as np
import pytest

from gan.validation import MIN_IMAGES, Validator
from tests.small_trainer import trainer
from tests.states import assert_equal

NAMES = {
    *("score/kid", "score/coverage", "score/diversity"),
    *("probability/trained", "probability/held_out"),
}
RANDOM = np.random.default_rng(1)


def pictures(count: int) -> np.ndarray:
    """Bars of random colour, place and width on grounds of random colour."""
    images = np.empty((count, 3, 32, 32), np.uint8)
    images[:] = RANDOM.integers(0, 256, (count, 3, 1, 1))
    for image in images:
        left, width = RANDOM.integers(0, 20), RANDOM.integers(3, 12)
        image[:, :, left : left + width] = RANDOM.integers(0, 256, (3, 1, 1))
    return images


IMAGES = pictures(160)
HELD = np.arange(160) % 2 == 0


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator(IMAGES, HELD)


class Drawing:
    """Stands for a trainer whose generator gives what the test wants."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.settings = trainer().settings

    def generate(self, latents) -> np.ndarray:
        return self.images[: len(latents)]

    def mean_probability_real(self, images: np.ndarray) -> float:
        return float(images.mean()) / 255


def test_other_images_from_the_same_source_score_better_than_noise_or_copies_of_one(validator):
    alike = validator.scores(Drawing(pictures(80)))
    noise = validator.scores(Drawing(RANDOM.integers(0, 256, (80, 3, 32, 32)).astype(np.uint8)))
    one = validator.scores(Drawing(np.repeat(pictures(1), 80, axis=0)))
    assert alike.keys() == NAMES
    assert alike["score/kid"] < 0.2 * noise["score/kid"]
    assert alike["score/kid"] < 0.2 * one["score/kid"]
    assert alike["score/coverage"] > 0.7 > 0.2 > max(noise["score/coverage"], one["score/coverage"])
    assert alike["score/diversity"] == pytest.approx(1, abs=0.2)
    assert one["score/diversity"] == pytest.approx(0, abs=1e-6)


def test_beliefs_are_of_images_trained_on_and_of_those_held_out():
    images = IMAGES.copy()
    images[HELD] = 51 + RANDOM.integers(0, 2, images[HELD].shape).astype(np.uint8)
    images[~HELD] = 204
    scores = Validator(images, HELD).scores(Drawing(pictures(80)))
    assert scores["probability/trained"] == pytest.approx(0.8)
    assert scores["probability/held_out"] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("plain", [True, False])
def test_scoring_leaves_no_trace_in_the_training(validator, plain):
    scored, alone = trainer(plain=plain), trainer(plain=plain)
    for _ in range(2):
        scored.step()
        alone.step()
        scores = validator.scores(scored)
        assert scores.keys() == NAMES
        assert np.isfinite(list(scores.values())).all()
    assert_equal(scored.state(), alone.state())


def test_the_fewest_images_will_do():
    scores = Validator(IMAGES[: 5 * MIN_IMAGES], np.arange(5 * MIN_IMAGES) < MIN_IMAGES).scores(trainer())
    assert np.isfinite(list(scores.values())).all()


def test_images_that_are_all_the_same_are_no_measure_of_diversity():
    validator = Validator(np.repeat(IMAGES[:1], 40, 0), np.arange(40) < 20)
    scores = validator.scores(Drawing(IMAGES))
    assert scores.keys() == NAMES - {"score/diversity"}
    assert np.isfinite(list(scores.values())).all()
