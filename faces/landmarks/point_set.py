"""Point sets: what the landmarks of a kind of face are called, and how they belong together.

A set is a JSON file; three come with the project, others are the user's:

    {
      "points": ["eye_left", "eye_right", "mouth", ...],        in the order of the coordinates
      "pairs": [["eye_left", "eye_right"], ...],                change places in a mirror image
      "areas": {"eyes": ["eye_left", "eye_right"], ...},
      "eyes": {"left": ["eye_left"], "right": ["eye_right"]},   whose means turn a face upright
      "scale": ["eye_left", "eye_right"]                        whose distance errors are divided by
    }

"Left" is always the picture's left. Nothing here imports torch.
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

SHIPPED = ("faces-68", "cats-9", "drawn-29")
"""The sets that come with the project: the 68 points of iBUG (Sagonas et al. 2013), the nine of the Cat data
set (Zhang et al. 2008), and those of the drawn faces."""

_FOLDER = resources.files(__package__) / "point_sets"


@dataclass(frozen=True)
class PointSet:
    """The landmarks of one kind of face.

    Attributes:
        name: of the set.
        points: K names, in the order of the coordinates.
        pairs: points that change places in a mirror image; what is in none stays.
        areas: names of the points that lie on a part of the face, by the part's name.
        eyes: points of the left and of the right eye, as the picture shows them.
        scale: the two points whose distance errors are divided by; the outer corners of the eyes.
    """

    name: str
    points: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    areas: dict[str, tuple[str, ...]]
    eyes: tuple[tuple[str, ...], tuple[str, ...]]
    scale: tuple[str, str]

    def __post_init__(self) -> None:
        parts = [*self.eyes, *self.areas.values()]
        named = [*self.scale, *(name for part in parts for name in part)]
        paired = [name for pair in self.pairs for name in pair]
        unknown = sorted({*named, *paired} - {*self.points})
        problem = (
            (not self.points and "it has no points")
            or (len({*self.points}) < len(self.points) and "two points have one name")
            or (unknown and f"{', '.join(unknown)} stands in it, but not among its points")
            or (len({*paired}) < len(paired) and "a point is in two pairs")
            or (not all(parts) and "an eye or an area has no points")
            or (self.scale[0] == self.scale[1] and "scale names one point twice")
        )
        if problem:
            raise UserError(f"the point set {self.name} is not right: {problem}")

    @property
    def count(self) -> int:
        """K, the number of points."""
        return len(self.points)

    @cached_property
    def mirror(self) -> NDArray[np.int64]:
        """int64 [K]: `points[mirror]` with x -> 1 - x are the landmarks of the mirror image."""
        order = np.arange(self.count)
        for pair in self.pairs:
            left, right = self.numbers(pair)
            order[[left, right]] = right, left
        return order

    @property
    def scale_numbers(self) -> list[int]:
        """The two points whose distance errors are divided by."""
        return self.numbers(self.scale)

    def numbers(self, names: Iterable[str]) -> list[int]:
        """The places of these names among the points."""
        return [self.points.index(name) for name in names]

    def eye_centres(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """The middles of the left and the right eye: of [..., K, 2] float64 [..., 2, 2], x and y."""
        middles = [np.asarray(points, float)[..., self.numbers(eye), :].mean(-2) for eye in self.eyes]
        return np.stack(middles, axis=-2)

    def to_json(self) -> dict[str, Any]:
        """As values JSON and a checkpoint can hold; `from_json` makes it again."""
        values = asdict(self)
        return values | {
            "points": list(self.points),
            "pairs": [list(pair) for pair in self.pairs],
            "areas": {name: list(part) for name, part in self.areas.items()},
            "eyes": {"left": list(self.eyes[0]), "right": list(self.eyes[1])},
            "scale": list(self.scale),
        }


def from_json(name: str, values: Mapping[str, Any]) -> PointSet:
    """A point set from the values that its JSON holds.

    Raises:
        UserError: something is missing, or does not fit together.
    """
    try:
        (one, other), eyes = values["scale"], values["eyes"]
        return PointSet(
            name=name,
            points=_names(values["points"]),
            pairs=tuple((left, right) for left, right in map(_names, values["pairs"])),
            areas={str(part): _names(names) for part, names in values["areas"].items()},
            eyes=(_names(eyes["left"]), _names(eyes["right"])),
            scale=(str(one), str(other)),
        )
    except KeyError as missing:
        raise UserError(f"the point set {name} has no {missing}; docs/landmarks.md shows one") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the point set {name} is not as docs/landmarks.md shows one: {error}") from None


def point_set(name: str | Path) -> PointSet:
    """A point set by the name of one of `SHIPPED`, or from a JSON file.

    Raises:
        UserError: there is none of that name, or the file is not readable or not right.
    """
    shipped = str(name) in SHIPPED
    path = _FOLDER / f"{name}.json" if shipped else Path(name)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"no point set {name} ({error.strerror}); give a JSON file, or one of {', '.join(SHIPPED)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"the point set {name} is no JSON: {error}") from None
    return from_json(str(name) if shipped else Path(name).stem, values)


def point_set_of(count: int) -> PointSet:
    """The shipped set of so many points.

    Raises:
        UserError: there is none.
    """
    for name in SHIPPED:
        if name.endswith(f"-{count}"):
            return point_set(name)
    raise UserError(
        f"no point set of {count} landmarks comes with the project; name them in a JSON file, which --points "
        "takes (docs/landmarks.md shows one)"
    )


def _names(values: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is no list of names")
    return tuple(values)
