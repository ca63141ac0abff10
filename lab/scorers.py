"""Scorers: attributes of face images as numbers, by which directions are found and measured.

Each attribute can be scored in two ways, so that one scorer finds a direction and another measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.landmarks.predictor import Predictor
from faces.recognition.recognizer import Recognizer
from gan.latent.directions import check_new_name, to_name
from images.tiles import to_luma
from lab.landmark_attributes import landmark_attributes, names_of

Images = NDArray[np.uint8]
Scores = NDArray[np.float64]

CLASSIFIER = "classifier"
MIN_PROBABILITY = 1e-3
"""Log-odds are limited to those of this probability: beyond, they depend on the classifier's training."""
NEGATIVE = ("none", "no", "without", "not")
"""First words of the names of a class that lacks what the others have."""
NEGATIVE_OF_TWO = (*NEGATIVE, "false", "0")
"""The same if there are two classes. Of more than two, 0 may be a number like the others, as of a person."""
LOOKS = 3
"""Passes of the landmark network over an image."""
SHIFT = 0.03
"""Share of the square's side by which it is moved for the four additional predictions of the last pass."""


@dataclass(frozen=True)
class Scorer:
    """Scores images.

    Attributes:
        names: of the attributes.
        groups: of each attribute; those of one group exclude each other, such as classes.
        sources: what scores each of them.
        score: uint8 [N, 3, S, S] to float64 [N, A].
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    sources: tuple[str, ...]
    score: Callable[[Images], Scores]

    def named(self, names: Sequence[str]) -> Scorer:
        """The same with only these of its attributes."""
        columns = [self.names.index(name) for name in names]
        return Scorer(
            tuple(names),
            tuple(self.groups[column] for column in columns),
            tuple(self.sources[column] for column in columns),
            lambda images: self.score(images)[:, columns],
        )

    def source_of(self, name: str) -> str:
        """What scores an attribute."""
        return self.sources[self.names.index(name)]


def join(scorers: Sequence[Scorer]) -> Scorer:
    """One scorer with the attributes of several."""
    return Scorer(
        tuple(name for scorer in scorers for name in scorer.names),
        tuple(group for scorer in scorers for group in scorer.groups),
        tuple(source for scorer in scorers for source in scorer.sources),
        lambda images: np.concatenate([scorer.score(images) for scorer in scorers], axis=1),
    )


PIXEL_ATTRIBUTES = ("brightness", "warmth", "contrast", "background")
FACE_COLOURS = ("brightness", "warmth", "contrast")
"""Those of `PIXEL_ATTRIBUTES` that are of the face, not of the background."""


def pixel_scorer() -> Scorer:
    """Brightness, warmth and contrast of the face, and brightness of the background.

    Means over the central half of the image's sides: of the luma, of red less blue, and the luma's standard
    deviation; and the mean luma of the two upper corners, an eighth of the sides each.
    """

    def score(images: Images) -> Scores:
        side = images.shape[-1]
        face, corner = slice(side // 4, side - side // 4), max(1, side // 8)
        centre = images[:, :, face, face].astype(np.float32)
        luma = to_luma(centre)
        corners = np.concatenate([images[..., :corner, :corner], images[..., :corner, -corner:]], -1)
        columns = [
            luma.mean((1, 2)),
            (centre[:, 0] - centre[:, 2]).mean((1, 2)),
            luma.std((1, 2)),
            to_luma(corners).mean((1, 2)),
        ]
        return np.stack(columns, 1).astype(np.float64)

    return Scorer(PIXEL_ATTRIBUTES, PIXEL_ATTRIBUTES, ("pixels",) * 4, score)


def other_pixel_scorer() -> Scorer:
    """The same attributes by another definition, on other pixels where there are.

    The median of green and the difference of the medians of red and blue in the central third of the sides,
    the range from the 10th to the 90th percentile of green in the central half, and the median of green along
    the left and right edge of the upper half, below the corners of `pixel_scorer`.
    """

    def score(images: Images) -> Scores:
        side = images.shape[-1]
        face, half = slice(side // 3, side - side // 3), slice(side // 4, side - side // 4)
        edge, rows = max(1, side // 12), slice(max(1, side // 8), side // 2)
        centre = images[:, :, face, face].astype(np.float32).reshape(len(images), 3, -1)
        low, high = np.percentile(images[:, 1, half, half].reshape(len(images), -1), (10, 90), axis=1)
        edges = np.concatenate([images[:, 1, rows, :edge], images[:, 1, rows, -edge:]], -1)
        columns = [
            np.median(centre[:, 1], 1),
            np.median(centre[:, 0], 1) - np.median(centre[:, 2], 1),
            high - low,
            np.median(edges.reshape(len(images), -1), 1),
        ]
        return np.stack(columns, 1).astype(np.float64)

    return Scorer(PIXEL_ATTRIBUTES, PIXEL_ATTRIBUTES, ("other pixels",) * 4, score)


def landmark_scorer(predictor: Predictor) -> Scorer:
    """Pose and expression by a network of train_landmarks.py; see `lab.landmark_attributes`.

    The points are means over the image and its mirror image, after three looks, of which the last is made
    from five slightly shifted places: an edit changes them by little more than one prediction is off. On the
    faces of a 48-px generator the eyes' opening by two networks correlated by 0.70 with a single look, by
    0.83 with the mirror image, and by 0.87 with the shifts too.

    Raises:
        UserError: the network's points show neither yaw nor a mouth.
    """
    point_set = predictor.point_set
    names = names_of(point_set)

    def score(images: Images) -> Scores:
        points = predictor.points_of_crops(images, looks=LOOKS, shift=SHIFT)
        mirrored = predictor.points_of_crops(
            np.ascontiguousarray(images[..., ::-1]), looks=LOOKS, shift=SHIFT
        )
        mirrored = mirrored[:, point_set.mirror]
        mirrored[..., 0] = images.shape[-1] - mirrored[..., 0]
        values = landmark_attributes((points + mirrored) / 2, point_set)
        return np.stack([values[name] for name in names], 1)

    # A smile widens the mouth: neither of the two leaves the other unchanged.
    groups = tuple("smile" if name == "mouth_wide" else name for name in names)
    return Scorer(names, groups, (f"landmarks {_run_name(predictor.checkpoint)}",) * len(names), score)


def classifier_scorer(recognizer: Recognizer, name: str | None = None) -> Scorer:
    """Log-odds of a classifier of train_classifier.py.

    With two classes, or one named none, no, without or not (or beginning with that word), there is one
    attribute: to have the other classes' property. Otherwise there is one for each class.

    Args:
        recognizer: the classifier.
        name: of that one attribute, or what the names of several begin with. By default the column of the
            table with the classes or, without one, the names of the classes.

    Raises:
        UserError: the name is not a valid direction name.
    """
    classes = recognizer.classes
    label = recognizer.settings.label
    column = name or (label if label and label.isidentifier() else None)
    words = NEGATIVE_OF_TWO if len(classes) == 2 else NEGATIVE
    negative = next((index for index, one in enumerate(classes) if _first_word(one) in words), None)
    if negative is None and len(classes) == 2:
        negative = 0
    if negative is not None:
        positive = column or to_name("_".join(one for one in classes if one != classes[negative]))
        names, columns, signs = (positive,), [negative], -1.0
    else:
        names = tuple(to_name(f"{column}_{one}" if column else one) for one in classes)
        columns, signs = list(range(len(classes))), 1.0
    for one in names:
        check_new_name(one)

    def score(images: Images) -> Scores:
        chances = recognizer.probabilities(images)[:, columns].astype(np.float64)
        chances = chances.clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        return signs * np.log(chances / (1 - chances))

    source = f"{CLASSIFIER} {_run_name(recognizer.checkpoint)}"
    return Scorer(names, (source,) * len(names), (source,) * len(names), score)


def is_classifier(source: str) -> bool:
    """Whether an attribute's source is a classifier."""
    return source.partition(" ")[0] == CLASSIFIER


def _first_word(name: str) -> str:
    """The first word of a class's name, in lower case."""
    return to_name(name).removeprefix("class_").casefold().split("_")[0]


def _run_name(checkpoint: Path) -> str:
    """The name of a checkpoint's run, or of the file if it is in none."""
    folder = checkpoint.resolve().parent
    return folder.parent.name if folder.name == "checkpoints" else checkpoint.name
