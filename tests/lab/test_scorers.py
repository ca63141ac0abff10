from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine.errors import UserError
from lab.scorers import classifier_scorer, join, other_pixel_scorer, pixel_scorer


def images() -> np.ndarray:
    """A grey image, then one that differs in each attribute of pixels, in their order."""
    grey = np.full((5, 3, 48, 48), 120, np.uint8)
    grey[1, :, 12:36, 12:36] = 160
    grey[2, 0, 12:36, 12:36], grey[2, 2, 12:36, 12:36] = 150, 90
    grey[3, :, 12:36, 12:24], grey[3, :, 12:36, 24:36] = 80, 160
    grey[4, :, :24, :12], grey[4, :, :24, 36:] = 220, 220
    return grey


@pytest.mark.parametrize("scorer", [pixel_scorer(), other_pixel_scorer()], ids=["pixels", "other pixels"])
def test_each_attribute_of_pixels_responds_to_its_own_change(scorer):
    scores = scorer.score(images())
    assert scores.shape == (5, 4)
    for column in range(4):
        assert scores[column + 1, column] > scores[0, column] + 20
    assert scores[[1, 2, 3], 3] == pytest.approx(scores[0, 3])


def recognizer(classes: tuple[str, ...], label: str | None = None) -> SimpleNamespace:
    """A classifier whose probabilities are the image's first pixels."""
    return SimpleNamespace(
        classes=classes,
        settings=SimpleNamespace(label=label),
        checkpoint=Path("0003-drawn-48px/checkpoints/best.pt"),
        probabilities=lambda images: images[:, 0, 0, : len(classes)].astype(np.float32) / 255,
    )


@pytest.mark.parametrize(
    ("classes", "label", "name", "expected"),
    [
        (("glasses", "none"), None, None, ["glasses"]),
        (("no glasses", "glasses"), None, None, ["glasses"]),
        (("none", "oval", "round"), "glasses", None, ["glasses"]),
        (("none", "oval", "round"), None, None, ["oval_round"]),
        (("men", "women"), None, None, ["women"]),
        (("0", "1"), r"_(\d)_", None, ["class_1"]),
        (("0", "1"), r"_(\d)_", "woman", ["woman"]),
        (("0", "1", "2"), "person", None, ["person_0", "person_1", "person_2"]),
        (("Ada", "Bob", "Zoë"), None, None, ["Ada", "Bob", "Zoë"]),
        (
            ("bob", "long", "short"),
            "hair_style",
            None,
            ["hair_style_bob", "hair_style_long", "hair_style_short"],
        ),
        (("north", "south", "note"), None, None, ["north", "south", "note"]),
    ],
)
def test_names_of_a_classifier(classes, label, name, expected):
    scorer = classifier_scorer(recognizer(classes, label), name)
    assert list(scorer.names) == expected
    assert scorer.source_of(expected[0]) == "classifier 0003-drawn-48px"
    assert len({*scorer.groups}) == 1


def test_log_odds_are_of_having_the_property():
    pixels = np.zeros((3, 3, 4, 4), np.uint8)
    pixels[0, 0, 0, :2], pixels[1, 0, 0, :2], pixels[2, 0, 0, :2] = (255, 0), (0, 255), (51, 204)
    scores = classifier_scorer(recognizer(("none", "round"), "glasses")).score(pixels)[:, 0]
    assert scores == pytest.approx([-np.log(999), np.log(999), np.log(4)], rel=1e-3)
    scores = classifier_scorer(recognizer(("round", "square", "oval"))).score(pixels)
    assert scores[2, 0] == pytest.approx(np.log(0.25), rel=1e-3)


def test_a_wrong_name_is_refused():
    with pytest.raises(UserError, match="'a-b' is not a valid direction name"):
        classifier_scorer(recognizer(("men", "women")), "a-b")


def test_attributes_are_joined_and_selected():
    joined = join([pixel_scorer(), classifier_scorer(recognizer(("men", "women")))])
    chosen = joined.named(["women", "warmth"])
    assert chosen.names == ("women", "warmth")
    assert chosen.source_of("warmth") == "pixels"
    assert np.array_equal(chosen.score(images()), joined.score(images())[:, [4, 1]])
