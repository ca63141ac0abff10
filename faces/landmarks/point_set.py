"""Point sets: the names of a kind of face's landmarks and the relations between them.

A set is a JSON file. Four are built in; users may provide others:

    {
      "points": ["eye_left", "eye_right", "mouth", ...],        in the order of the coordinates
      "pairs": [["eye_left", "eye_right"], ...],                swapped in a mirror image
      "areas": {"eyes": ["eye_left", "eye_right"], ...},
      "eyes": {"left": ["eye_left"], "right": ["eye_right"]},   their means align a face
      "scale": ["eye_left", "eye_right"]                        their distance normalises errors
    }

"Left" is always the left of the image. Nothing here imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError

BUILT_IN = ("faces-68", "faces-5", "cats-9", "drawn-29")
"""The built-in sets: the 68 points of iBUG (Sagonas et al. 2013), the five of most face detectors (K. Zhang
et al. 2016), the nine of the Cat data set (W. Zhang et al. 2008), and those of the drawn faces."""

_FOLDER = resources.files(__package__) / "point_sets"


@dataclass(frozen=True)
class PointSet:
    """The landmarks of one kind of face.

    Attributes:
        name: of the set.
        points: K names, in the order of the coordinates.
        pairs: points that are swapped in a mirror image; the others are on the mirror line.
        areas: the points on each part of the face, by the part's name.
        eyes: the points of the left and of the right eye, as in the image.
        scale: the two points whose distance normalises errors; the outer corners of the eyes.

    Raises:
        UserError: the parts contradict each other.
    """

    name: str
    points: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    areas: dict[str, tuple[str, ...]]
    eyes: tuple[tuple[str, ...], tuple[str, ...]]
    scale: tuple[str, str]

    def __post_init__(self) -> None:
        groups = [*self.eyes, *self.areas.values()]
        paired = [name for pair in self.pairs for name in pair]
        used = [*self.scale, *paired, *(name for group in groups for name in group)]
        unknown = sorted({*used} - {*self.points})
        problem = (
            (not self.points and "it has no points")
            or (len({*self.points}) < len(self.points) and "two points have the same name")
            or (unknown and f"{', '.join(unknown)} is not among its points")
            or (len({*paired}) < len(paired) and "a point is in two pairs")
            or (not all(groups) and "an eye or an area has no points")
            or (self.scale[0] == self.scale[1] and "scale contains one point twice")
        )
        if problem:
            raise UserError(f"the point set {self.name} is invalid: {problem}")

    @property
    def count(self) -> int:
        """K, the number of points."""
        return len(self.points)

    @cached_property
    def mirror(self) -> NDArray[np.int64]:
        """int64 [K]: `points[mirror]` with x -> 1 - x are the landmarks of the mirror image."""
        order = np.arange(self.count)
        for pair in self.pairs:
            left, right = self.indices(pair)
            order[[left, right]] = right, left
        return order

    @property
    def scale_indices(self) -> list[int]:
        """Indices of the two points whose distance normalises errors."""
        return self.indices(self.scale)

    def indices(self, names: Iterable[str]) -> list[int]:
        """Indices of the points with these names."""
        return [self.points.index(name) for name in names]

    def eye_centres(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Centres of the left and the right eye: [..., K, 2] to float64 [..., 2, 2], x and y."""
        centres = [np.asarray(points, float)[..., self.indices(eye), :].mean(-2) for eye in self.eyes]
        return np.stack(centres, axis=-2)

    def to_json(self) -> dict[str, Any]:
        """The values for JSON and checkpoints; `from_json` is the inverse."""
        values = asdict(self)
        return values | {
            "points": list(self.points),
            "pairs": [list(pair) for pair in self.pairs],
            "areas": {name: list(part) for name, part in self.areas.items()},
            "eyes": {"left": list(self.eyes[0]), "right": list(self.eyes[1])},
            "scale": list(self.scale),
        }


def from_json(name: str, values: Mapping[str, Any]) -> PointSet:
    """Create a point set from the values of its JSON.

    Raises:
        UserError: a value is missing or invalid.
    """
    try:
        (first, second), eyes = values["scale"], values["eyes"]
        return PointSet(
            name=name,
            points=_names(values["points"]),
            pairs=tuple((left, right) for left, right in map(_names, values["pairs"])),
            areas={str(part): _names(names) for part, names in values["areas"].items()},
            eyes=(_names(eyes["left"]), _names(eyes["right"])),
            scale=(str(first), str(second)),
        )
    except KeyError as missing:
        raise UserError(f"the point set {name} has no {missing}; see the one in docs/landmarks.md") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the point set {name} is not like the one in docs/landmarks.md: {error}") from None


def load_point_set(name: str | Path) -> PointSet:
    """Load a point set by the name of one of `BUILT_IN`, or from a JSON file.

    Raises:
        UserError: there is no such set, or the file is unreadable or invalid.
    """
    built_in = str(name) in BUILT_IN
    path = _FOLDER / f"{name}.json" if built_in else Path(name)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"no point set {name} ({error.strerror}); give a JSON file or one of {', '.join(BUILT_IN)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"the point set {name} is not JSON: {error}") from None
    return from_json(str(name) if built_in else Path(name).stem, values)


def built_in_point_set(count: int) -> PointSet:
    """The built-in set with this number of points.

    Raises:
        UserError: there is none.
    """
    for name in BUILT_IN:
        if name.endswith(f"-{count}"):
            return load_point_set(name)
    raise UserError(
        f"no point set of {count} landmarks is built in; describe them in a JSON file as in "
        "docs/landmarks.md and pass it with --points"
    )


def _names(values: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is not a list of names")
    return tuple(values)
