import numpy as np
import pytest

from gan.validation import MIN_IMAGES, Validator
from tests.small_trainer import trainer
from tests.states import assert_equal

NAMES = {
    *("score/kid", "score/kid_raw", "score/coverage", "score/recall", "score/diversity"),
    *("probability/trained", "probability/held_out"),
}
RANDOM = np.random.default_rng(1)


def bars(count: int) -> np.ndarray:
    """Images of a bar of random colour, place and width on a background of random colour."""
    images = np.empty((count, 3, 32, 32), np.uint8)
    images[:] = RANDOM.integers(0, 256, (count, 3, 1, 1))
    for image in images:
        left, width = RANDOM.integers(0, 20), RANDOM.integers(3, 12)
        image[:, :, left : left + width] = RANDOM.integers(0, 256, (3, 1, 1))
    return images


IMAGES = bars(160)
HELD_OUT = np.arange(160) % 2 == 0


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator(IMAGES, HELD_OUT)


class FakeTrainer:
    """A trainer whose generator makes the given images, and whose D measures brightness.

    Args:
        images: of the averaged generator.
        raw: of the raw one; the same if None.
    """

    def __init__(self, images: np.ndarray, raw: np.ndarray | None = None) -> None:
        self.images = images
        self.raw = images if raw is None else raw
        self.settings = trainer().settings

    def generate(self, latents, *, raw: bool = False) -> np.ndarray:
        return (self.raw if raw else self.images)[: len(latents)]

    def mean_probability_real(self, images: np.ndarray) -> float:
        return float(images.mean()) / 255


def test_similar_images_score_better_than_noise_or_copies_of_one(validator):
    similar = validator.scores(FakeTrainer(bars(80)))
    noise = validator.scores(FakeTrainer(RANDOM.integers(0, 256, (80, 3, 32, 32)).astype(np.uint8)))
    copies = validator.scores(FakeTrainer(np.repeat(bars(1), 80, axis=0)))
    assert similar.keys() == NAMES
    assert similar["score/kid"] < 0.2 * min(noise["score/kid"], copies["score/kid"])
    assert similar["score/coverage"] > 0.7 > 0.2 > max(noise["score/coverage"], copies["score/coverage"])
    assert similar["score/recall"] > 0.7 > 0.2 > max(noise["score/recall"], copies["score/recall"])
    assert similar["score/diversity"] == pytest.approx(1, abs=0.2)
    assert copies["score/diversity"] == pytest.approx(0, abs=1e-6)


def test_the_raw_generator_is_scored_beside_the_average(validator):
    average, raw = bars(80), np.repeat(bars(1), 80, axis=0)
    scores = validator.scores(FakeTrainer(average, raw))
    assert scores["score/kid"] == validator.scores(FakeTrainer(average))["score/kid"]
    assert scores["score/kid_raw"] == validator.scores(FakeTrainer(raw))["score/kid"]


def test_probabilities_are_those_of_training_and_held_out_images():
    images = IMAGES.copy()
    images[HELD_OUT] = 51 + RANDOM.integers(0, 2, images[HELD_OUT].shape).astype(np.uint8)
    images[~HELD_OUT] = 204
    scores = Validator(images, HELD_OUT).scores(FakeTrainer(bars(80)))
    assert scores["probability/trained"] == pytest.approx(0.8)
    assert scores["probability/held_out"] == pytest.approx(0.2, abs=0.01)


def test_probabilities_and_diversity_are_of_images_from_all_over_a_sorted_folder():
    levels = np.linspace(0, 255, 1200).astype(np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (1200, 3, 32, 32)).copy()
    scores = Validator(images, np.arange(1200) % 2 == 0).scores(FakeTrainer(images[::2]))
    assert scores["probability/trained"] == pytest.approx(scores["probability/held_out"], abs=0.01)
    assert scores["score/diversity"] == pytest.approx(128 / 1200, rel=0.1)  # its grid is of the first 64


@pytest.mark.parametrize("textbook", [True, False])
def test_scoring_leaves_the_next_steps_unchanged(validator, textbook):
    scored, unscored = trainer(textbook=textbook), trainer(textbook=textbook)
    for _ in range(2):
        scored.step()
        unscored.step()
        scores = validator.scores(scored)
        assert scores.keys() == NAMES - ({"score/kid_raw"} if textbook else set())
        assert np.isfinite(list(scores.values())).all()
    assert_equal(scored.state(), unscored.state())


def test_the_minimum_of_images_suffices():
    count = 5 * MIN_IMAGES
    scores = Validator(IMAGES[:count], np.arange(count) < MIN_IMAGES).scores(trainer())
    assert np.isfinite(list(scores.values())).all()


def test_identical_real_images_give_no_diversity():
    validator = Validator(np.repeat(IMAGES[:1], 40, 0), np.arange(40) < 20)
    scores = validator.scores(FakeTrainer(IMAGES))
    assert scores.keys() == NAMES - {"score/diversity"}
    assert np.isfinite(list(scores.values())).all()
