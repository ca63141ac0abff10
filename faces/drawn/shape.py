"""The geometry of a drawn face: a simple head in three dimensions, and its landmarks.

Head coordinates: x to the right of the image, y down, z towards the viewer. The origin is between the pupils
on the head's vertical axis, the unit is the side of the image. "Left" is always the left of the image.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from faces.drawn.attributes import Person, Scene
from faces.drawn.canvas import linspace, smoothstep, spline, translate

EYE_LINE = 0.485
"""Average y of the pupils, as a fraction of the side."""

LANDMARKS = (
    "cheek_left", "jaw_left", "chin", "jaw_right", "cheek_right",
    "brow_left_outer", "brow_left_middle", "brow_left_inner",
    "brow_right_inner", "brow_right_middle", "brow_right_outer",
    "eye_left_outer", "eye_left_top", "eye_left_inner", "eye_left_bottom",
    "eye_right_inner", "eye_right_top", "eye_right_outer", "eye_right_bottom",
    "pupil_left", "pupil_right",
    "nose_bridge", "nose_tip", "nostril_left", "nostril_right",
    "mouth_left", "mouth_top", "mouth_right", "mouth_bottom",
)  # fmt: skip
"""Names of the landmarks in order; the point set drawn-29 relates them."""

_CHEEK_Y, _JAW_Y = 0.10, 0.225
_SIDES = np.array([(-1.0, 1.0), (1.0, 1.0)])
_DEPTH_AT = np.linspace(0, 1, 33)
_DEPTH = 0.19 * smoothstep(0, 1, _DEPTH_AT) ** 1.3


class Head:
    """The shape of a person's head in a scene, and its projection to the image.

    Positions in the image are fractions of the side, (0, 0) at the top left.
    """

    def __init__(self, person: Person, scene: Scene) -> None:
        self.person, self.scene = person, scene
        angle = 0.40 * scene.turn
        self.sin, self.cos = math.sin(angle), math.cos(angle)
        self.nod = math.sin(0.16 * scene.nod)
        self.zoom = 1.075 + 0.04 * scene.zoom
        self.centre = np.array([0.5 + 0.02 * scene.shift_x, EYE_LINE + 0.02 * scene.shift_y])
        # Faces are framed by their eyes, so most of their movement by turn and nod is compensated.
        self._turning = np.array([[self.cos, 0.0], [0.0, 1.0], [self.sin, self.nod]])
        self._turning_start = -0.16 * self._turning[2]
        tilt, pivot = 0.13 * scene.tilt, np.array([0.0, 0.1])
        rotation = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
        self._framing = rotation * self.zoom
        self._framing_start = (pivot - pivot @ rotation) * self.zoom + self.centre
        self._to_image = self._turning @ self._framing
        self._to_image_start = self._turning_start @ self._framing + self._framing_start

        width = 0.282 * (1 + 0.08 * person.head_width)
        self.chin_y = 0.370 + 0.030 * person.chin_length
        jaw = width * (0.82 + 0.09 * person.jaw_width + 0.05 * person.cheek_fullness)
        chin = width * (0.43 + 0.12 * person.jaw_width)
        cheek = width * (0.965 + 0.035 * person.cheek_fullness)
        self.crown_y = -0.358
        right = [
            (0, self.crown_y),
            (0.48 * width, self.crown_y + 0.036),
            (0.86 * width, -0.205),
            (width, -0.045),
            (cheek, _CHEEK_Y),
            (jaw, _JAW_Y),
            (chin, self.chin_y - 0.042),
            (0, self.chin_y),
        ]
        left = [(-x, y) for x, y in right[-2:0:-1]]
        self.right_side = spline([*right, *left], closed=True)[: 7 * 8 + 1]
        self._side_x, self._side_y = np.ascontiguousarray(self.right_side.T)
        self._depth_y = _DEPTH_AT * self.chin_y
        self.width, self.cheek, self.jaw = width, cheek, jaw

    # Projection to the image

    def half_width(self, y: np.ndarray | float) -> np.ndarray:
        """Half the head's width at y."""
        return np.interp(y, self._side_y, self._side_x)

    def slice_depth(self, y: np.ndarray | float) -> np.ndarray:
        """Depth of the centre of the horizontal section at y: the chin is in front of the neck."""
        return np.interp(y, self._depth_y, _DEPTH)

    def to_image(self, x: np.ndarray, y: np.ndarray, z: np.ndarray | float) -> np.ndarray:
        """Project head coordinates, [n] each or a scalar, to the image: [n, 2]."""
        return _stack(x, y, z) @ self._to_image + self._to_image_start

    def project(self, x: np.ndarray, y: np.ndarray, z: np.ndarray | float) -> np.ndarray:
        """Apply turn and nod only: head coordinates to flat coordinates [n, 2] of the untilted head."""
        return _stack(x, y, z) @ self._turning + self._turning_start

    def unframe(self, positions: np.ndarray) -> np.ndarray:
        """Positions in the image, [..., 2], to flat coordinates."""
        return (positions - self._framing_start) @ np.linalg.inv(self._framing)

    def depth(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Depth of the front of the head at (x, y)."""
        return self.slice_depth(y) + 0.85 * np.sqrt(np.maximum(self.half_width(y) ** 2 - x**2, 0))

    def surface(self, points: np.ndarray | list, lift: float | np.ndarray = 0) -> np.ndarray:
        """Project points [..., 2] (x, y) on the front of the head, or `lift` in front of it."""
        points = np.asarray(points, dtype=float)
        x, y = np.ascontiguousarray(points.reshape(-1, 2).T)
        return self.to_image(x, y, self.depth(x, y) + lift).reshape(points.shape)

    def at_depth(self, points: np.ndarray | list, depth: np.ndarray | float) -> np.ndarray:
        """Project points [..., 2] at a depth: a scalar, or one for each point."""
        points = np.asarray(points, dtype=float)
        x, y = points.reshape(-1, 2).T
        return self.to_image(x, y, np.ravel(depth)).reshape(points.shape)

    def edge(self, points: np.ndarray | list, depth: np.ndarray | float | None = None) -> np.ndarray:
        """Project points [n, 2] on the visible outline, which turning moves but does not narrow."""
        x, y = np.asarray(points, dtype=float).reshape(-1, 2).T
        depth = self.slice_depth(y) if depth is None else depth
        # On the side turned to the viewer the face ends at the ear, but the skull above it continues.
        near = smoothstep(-0.14, 0.04, y) * (x * self.sin < 0)
        return self.to_image(x / self.cos * (1 - (1 - self.cos) * near), y, depth)

    # The features, in head coordinates

    def outline(self) -> np.ndarray:
        """Outline [n, 2] of the head in the image, clockwise from the crown."""
        left = self.right_side[-2:0:-1] * (-1, 1)
        return self.edge(np.concatenate([self.right_side, left]))

    @functools.cached_property
    def eye_centre(self) -> np.ndarray:
        """Centre [2] of the right eye; the left one mirrors it."""
        return np.array([0.130 + 0.012 * self.person.eye_spacing, 0.0])

    @functools.cached_property
    def eye_lids(self) -> tuple[np.ndarray, np.ndarray]:
        """Upper and lower lid of the right eye, curves [17, 2] from the inner to the outer corner."""
        person, scene, along = self.person, self.scene, linspace(-1, 1, 17)
        half = 0.061 * (1 + 0.14 * person.eye_size)
        opening = (0.45 + 0.55 * scene.eye_opening) * (
            1 + 0.12 * person.eye_size + 0.20 * person.eye_roundness
        )
        smiling, bow = max(scene.smile, 0), 1 - along**2
        x, base = self.eye_centre[0] + half * along, -0.010 * (person.eye_slant + 0.15) * along
        upper = base - 0.040 * opening * (1 - 0.06 * smiling) * bow**0.66 * (1 - 0.04 * along)
        lower = base + 0.028 * opening * (1 - 0.32 * smiling) * bow**0.80 * (1 + 0.12 * along)
        return np.stack([x, upper], axis=1), np.stack([x, lower], axis=1)

    @functools.cached_property
    def pupils(self) -> np.ndarray:
        """Centres [2, 2] of the left and the right pupil."""
        return translate(mirror_pair(self.eye_centre), 0.014 * self.scene.gaze, -0.004)

    @functools.cached_property
    def brow(self) -> np.ndarray:
        """The centre line [13, 2] of the right eyebrow, from its inner to its outer end."""
        person, scene, along = self.person, self.scene, linspace(-1, 1, 13)
        height = -0.088 - 0.006 * person.eye_roundness - 0.016 * scene.brow_raise
        arch = 0.019 + 0.011 * person.brow_arch + 0.005 * scene.brow_raise
        # A sad face raises the inner ends; a stern one lowers them.
        inner = 0.014 * max(-scene.smile, 0) - 0.011 * max(-scene.brow_raise, 0)
        y = height + arch * (along + 0.04) ** 2 - inner * (1 - along) / 2 + 0.004 * along
        return np.stack([self.eye_centre[0] + 0.004 + 0.079 * along, y], axis=1)

    @functools.cached_property
    def nose(self) -> dict[str, np.ndarray]:
        """Head coordinates [2] of the nose's bridge, tip, base and right wing."""
        tip = 0.128 + 0.018 * self.person.nose_length
        wing = 0.041 * (1 + 0.26 * self.person.nose_width)
        return {
            "bridge": np.array([0.0, 0.012]),
            "tip": np.array([0.0, tip]),
            "base": np.array([0.0, tip + 0.034]),
            "wing": np.array([wing, tip + 0.014]),
        }

    @functools.cached_property
    def mouth(self) -> dict[str, np.ndarray]:
        """Curves [25, 2] from left to right: top, upper, lower and bottom edge of the lips."""
        person, scene = self.person, self.scene
        along = linspace(-1, 1, 25)
        bow = 1 - along**2
        half = 0.089 * (1 + 0.16 * person.mouth_width + 0.14 * scene.smile - 0.10 * scene.mouth_open)
        centre = 0.238 + 0.010 * person.nose_length + 0.006 * person.chin_length
        curve = 0.24 + scene.smile * (0.76 if scene.smile > 0 else 1.0)
        line = centre + 0.012 * curve - 0.036 * curve * along**2 - 0.003 * np.cos(3 * np.pi * along) * bow
        opened = scene.mouth_open * (0.052 + 0.012 * max(scene.smile, 0))
        upper = line - 0.12 * opened * bow**0.6
        lower = line + 0.88 * opened * bow**0.6
        thickness = (1 + 0.42 * person.lip_fullness) * (1 - 0.15 * scene.smile)
        cupid = (
            1 - 0.22 * np.exp(-((along / 0.13) ** 2)) + 0.10 * np.exp(-(((np.abs(along) - 0.27) / 0.16) ** 2))
        )
        top = upper - 0.021 * thickness * bow**0.8 * cupid
        bottom = lower + 0.027 * thickness * bow**0.7
        xs = half * along
        return {
            name: np.stack([xs, y], axis=1)
            for name, y in (("top", top), ("upper", upper), ("lower", lower), ("bottom", bottom))
        }

    def landmarks(self) -> np.ndarray:
        """Positions of `LANDMARKS` in the image: float64 [29, 2]."""
        mouth, nose = self.mouth, self.nose
        cheek, jaw = (self.cheek, _CHEEK_Y), (self.jaw, _JAW_Y)
        contour = np.array([(-cheek[0], cheek[1]), (-jaw[0], jaw[1]), (0, self.chin_y), jaw, cheek])
        left_brow, right_brow = mirror_pair(self.brow[[0, 6, 12]])
        upper, lower = self.eye_lids
        left_eye, right_eye = mirror_pair(np.stack([upper[0], upper[8], upper[16], lower[8]]))
        lips = np.stack([mouth["top"][0], mouth["top"][12], mouth["top"][24], mouth["bottom"][12]])
        on_skin = [left_brow[::-1], right_brow, left_eye[[2, 1, 0, 3]], right_eye, self.pupils]
        on_nose = np.stack([nose["bridge"], nose["tip"], *mirror_pair(nose["wing"])])
        lifts = np.array([NOSE_LIFT[name] for name in ("bridge", "tip", "wing", "wing")])
        return np.concatenate(
            [
                self.edge(contour),
                self.surface(np.concatenate(on_skin)),
                self.surface(on_nose, lifts),
                self.surface(lips),
            ]
        )


def _stack(x: np.ndarray, y: np.ndarray, z: np.ndarray | float) -> np.ndarray:
    solid = np.empty((len(x), 3))
    solid[:, 0], solid[:, 1], solid[:, 2] = x, y, z
    return solid


def mirror_pair(points: np.ndarray) -> np.ndarray:
    """Points [..., 2] of the right side and their mirror image: [2, ..., 2], left first."""
    points = np.asarray(points)
    return points * _SIDES.reshape(2, *[1] * (points.ndim - 1), 2)


NOSE_LIFT = {"bridge": 0.01, "tip": 0.055, "base": 0.02, "wing": 0.012}
"""Height of the parts of the nose above the face."""
