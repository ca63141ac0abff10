"""Clothes, glasses and hats of drawn faces."""

from __future__ import annotations

import numpy as np

from faces.drawn.canvas import Canvas, ellipse, linspace, mix, oklch, ramp, smoothstep, spline, translate
from faces.drawn.shape import Head, mirror_pair
from faces.drawn.skin import Light, skin_colour

FRAMES = np.array([(30, 27, 32), (92, 54, 36), (186, 142, 70), (52, 78, 128), (158, 44, 54)], float)
WHITE = np.full(3, 255.0)

LENSES = {"round": (0.088, 0.083, 2.0), "oval": (0.094, 0.064, 2.4), "square": (0.096, 0.072, 5.0)}
"""Half width, half height, and exponent of the superellipse."""


def cloth_colour(hue: float, lightness: float) -> np.ndarray:
    """Colour of a cloth, float [3] in [0, 255], muted if very dark or very light."""
    return oklch(0.32 + 0.58 * lightness, 0.05 + 0.085 * (1 - (2 * lightness - 1) ** 2), hue)


def paint_body(canvas: Canvas, head: Head, light: Light) -> None:
    """Paint neck, shoulders and clothes."""
    scene, skin = head.scene, skin_colour(head)
    half = 0.150 * (1 + 0.06 * head.person.head_width + 0.08 * head.person.jaw_width)

    def body(points: list) -> np.ndarray:
        return spline(np.array(points), 8) * head.zoom + head.centre

    top = head.at_depth([(-half, 0.18), (half, 0.18)], 0.0)
    neck = np.concatenate([top, body([(half, 0.40), (half * 1.12, 0.47), (0.30, 0.56)])])
    neck = np.concatenate([neck, body([(-0.30, 0.56), (-half * 1.12, 0.47), (-half, 0.40)])])
    chin = head.project(np.zeros(1), np.array([head.chin_y]), 0.12)[0]
    shadow = light.spots([(translate(chin, -0.05 * light.side, 0), 0.17, 0.085, 1.0)])
    canvas.paint(light.shade(skin * (0.95, 0.91, 0.91), -0.12 - 0.75 * shadow, 0.7), canvas.mask(neck))
    cloth = cloth_colour(scene.clothes_hue, scene.clothes_lightness)
    drop = 0.455 + 0.04 * scene.neckline
    collar = [(-0.60, 0.60), (-0.40, 0.475), (-half * 1.22, 0.415), (-half * 0.6, drop - 0.008)]
    collar = body([*collar, (0, drop), *[(-x, y) for x, y in collar[::-1]]])
    shirt = np.concatenate([collar, head.centre + np.array([(0.6, 0.8), (-0.6, 0.8)])])
    canvas.paint(light.shade(cloth, 0.05 - 0.3 * shadow, 0.8), canvas.mask(shirt))
    inner = collar[18:-18]
    canvas.stroke(inner, 0.016, mix(cloth, WHITE, 0.22), 0.9)
    canvas.stroke(translate(inner, 0, 0.009), 0.003, cloth * 0.6, 0.5)


def paint_glasses(canvas: Canvas, head: Head) -> None:
    """Paint glasses, if any: frames, glare, and arms."""
    kind, scene = head.scene.glasses, head.scene
    if kind == "none":
        return
    radius_x, radius_y, power = LENSES[kind]
    colour = ramp(FRAMES, scene.glasses_colour)
    thickness = 0.0125 if kind != "oval" else 0.009
    angle = linspace(0, 2 * np.pi, 41)
    shape = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    shape = np.sign(shape) * np.abs(shape) ** (2 / power)

    def worn(points: np.ndarray) -> np.ndarray:
        return head.at_depth(points, 0.285 - 0.7 * points[..., 0] ** 2)

    centre = head.eye_centre * 1.02 + (0, 0.010)
    lens = shape * (radius_x, radius_y) + centre
    hinge = np.array([centre[0] + radius_x, -0.012])
    arms = np.stack(
        [worn(mirror_pair(hinge)), head.edge(mirror_pair(np.array([head.width, -0.022])), 0.0)], axis=1
    )
    lenses = worn(mirror_pair(lens))
    canvas.stroke(arms, thickness, colour * 0.8)
    canvas.stroke(translate(lenses, 0.002, 0.010), thickness, skin_colour(head) * 0.35, 0.22)
    canvas.fill(lenses, np.array([226, 238, 250.0]), 0.09)
    glare = np.array([(-0.62, 0.10), (-0.12, -0.72), (0.16, -0.72), (-0.50, 0.46)]) * (radius_x, radius_y)
    canvas.fill(worn(np.stack([glare + centre * (-1, 1), glare + centre])), WHITE, 0.12)
    canvas.stroke(lenses, thickness, colour)
    gleam = lens[31:39] if scene.light_side > 0 else lens[22:30]
    canvas.stroke(worn(mirror_pair(gleam)), 0.35 * thickness, mix(colour, WHITE, 0.6), 0.55)
    inner = centre[0] - radius_x
    bridge = spline([(-inner, 0.002), (0, -0.012), (inner, 0.002)])
    canvas.stroke(worn(bridge), thickness, colour)


class Hat:
    """The hat of a scene; `kind` may be none."""

    def __init__(self, head: Head, light: Light) -> None:
        """Prepare the hat of `head`'s scene."""
        self.head, self.light, self.kind = head, light, head.scene.hat
        self.colour = cloth_colour(head.scene.hat_hue, head.scene.hat_lightness)

    def paint(self, canvas: Canvas) -> None:
        """Paint the hat over hair and face."""
        if self.kind != "none":
            getattr(self, f"_paint_{self.kind}")(canvas)

    def outline(self) -> list[np.ndarray]:
        """Polygons that cast a shadow on the face."""
        if self.kind in ("none", "headscarf"):
            return []
        return [np.concatenate([self._dome(0.04), self._rim(self._front())[::-1]])]

    def _front(self) -> float:
        return {"beanie": -0.165, "cap": -0.185, "brimmed": -0.195}[self.kind]

    def _dome(self, rise: float, off: float = 0.035, sides: float = -0.115) -> np.ndarray:
        """The crown of the hat from left to right, `rise` above the head."""
        wide, top = self.head.width + off, self.head.crown_y - rise
        right = [(0, top), (0.50 * wide, top + 0.040), (0.88 * wide, -0.235), (wide, sides)]
        return self.head.edge(spline([*[(-x, y) for x, y in right[:0:-1]], *right], 6), 0.0)

    def _rim(self, front: float, off: float = 0.035, sides: float = -0.115) -> np.ndarray:
        """The lower edge of the hat on the forehead, from left to right."""
        along = linspace(-1, 1, 21)
        positions = np.stack(
            [along * (self.head.width + off), sides + (front - sides) * (1 - along**2)], axis=1
        )
        on_edge, on_front = (
            self.head.edge(positions, 0.0),
            self.head.at_depth(positions, 0.26 * np.sqrt(1 - along**2)),
        )
        # Its ends are on the visible outline, its middle on the forehead.
        return on_front + (on_edge - on_front) * (along**6)[:, None]

    def _seams(self, canvas: Canvas, rim: np.ndarray, apex: np.ndarray, numbers: np.ndarray) -> None:
        feet = rim[numbers]
        bends = apex + (feet - apex) * (0.74, 0.42)
        lines = np.stack([spline([foot, bend, apex], 5) for foot, bend in zip(feet, bends, strict=True)])
        canvas.stroke(lines, 0.0045, self.colour * 0.6, 0.38)

    def _crown(self, canvas: Canvas, dome: np.ndarray, rim: np.ndarray) -> None:
        canvas.paint(self.light.shade(self.colour), canvas.mask(np.concatenate([dome, rim[::-1]])))

    def _paint_beanie(self, canvas: Canvas) -> None:
        front = self._front()
        dome = self._dome(0.050, 0.026)
        self._crown(canvas, dome, self._rim(front, 0.026))
        lower, upper = self._rim(front + 0.004, 0.036, -0.108), self._rim(front - 0.085, 0.030, -0.195)
        self._seams(canvas, upper, dome[len(dome) // 2], np.arange(2, 19, 2))
        # The cuff is thick and bulges at its ends.
        ends = (lower[[0, -1]] + upper[[0, -1]]) / 2 + [(-0.007, 0), (0.007, 0)]
        band = np.concatenate([lower[1:-1], ends[1:], upper[-2:0:-1], ends[:1]])
        canvas.paint(
            self.light.shade(mix(self.colour, WHITE, 0.12)), canvas.mask(spline(band, 3, closed=True))
        )
        canvas.stroke(np.stack([lower, upper], axis=1)[1:-1], 0.0045, self.colour * 0.62, 0.38)
        canvas.stroke(upper[1:-1], 0.005, self.colour * 0.5, 0.45)

    def _paint_cap(self, canvas: Canvas) -> None:
        front = self._front()
        rim, dome = self._rim(front - 0.01, 0.022), self._dome(0.035, 0.022)
        self._crown(canvas, dome, rim)
        apex = dome[len(dome) // 2]
        self._seams(canvas, rim, apex, np.array([4, 10, 16]))
        canvas.fill(ellipse(*apex, 0.016, 0.008), self.colour * 0.75)
        along = linspace(-1, 1, 25)
        bow, x = np.sqrt(1 - along**2), 0.262 * along
        back = np.stack([x, front + 0.032 - 0.055 * bow], axis=1)
        edge = np.stack([x * 1.02, front + 0.032 + 0.072 * bow], axis=1)
        depth = 0.20 + 0.07 * bow
        back, edge = self.head.at_depth(back, depth), self.head.at_depth(edge, depth + 0.09 * bow)
        under = back * 0.30 + edge * 0.70
        canvas.paint(
            self.light.shade(self.colour * 0.94, 0.16), canvas.mask(np.concatenate([back, edge[::-1]]))
        )
        canvas.fill(np.concatenate([under, edge[::-1]]), self.colour * 0.35, 0.40)
        canvas.stroke(under, 0.005, mix(self.colour, WHITE, 0.40), 0.5)

    def _paint_brimmed(self, canvas: Canvas) -> None:
        front = self._front()
        rim, dome = self._rim(front, 0.03), self._dome(0.040, 0.028)
        self._crown(canvas, dome, rim)
        band = np.concatenate([rim, self._rim(front - 0.06, 0.026, -0.190)[::-1]])
        canvas.paint(self.light.shade(self.colour * 0.42), canvas.mask(band))
        along = linspace(-1, 1, 31)
        x, bow = along * 0.43, 1 - along**4
        centre = front + 0.015 + 0.075 * along**2
        upper = self.head.at_depth(np.stack([x, centre - 0.018 * bow], axis=1), 0.16)
        lower = self.head.at_depth(np.stack([x, centre + 0.040 * np.sqrt(bow)], axis=1), 0.20)
        canvas.paint(self.light.shade(self.colour, 0.15), canvas.mask(np.concatenate([upper, lower[::-1]])))
        canvas.stroke(translate(lower, 0, -0.006), 0.012, self.colour * 0.4, 0.5)
        canvas.stroke(translate(upper, 0, 0.003), 0.004, mix(self.colour, WHITE, 0.4), 0.5)

    def _paint_headscarf(self, canvas: Canvas) -> None:
        head = self.head
        right = head.right_side[head.right_side[:, 1] < 0.20]
        right = right + np.stack(
            [np.full(len(right), 0.035), -0.045 * smoothstep(-0.1, -0.33, right[:, 1])], 1
        )
        right[0, 0] = 0
        right = np.concatenate([right, [(head.width * 0.95, 0.30), (head.width * 1.15, 0.44), (0.52, 0.60)]])
        outer = head.edge(np.concatenate([right[::-1] * (-1, 1), right[1:]]), 0.0)
        hole = ellipse(0, 0.075, head.width * 0.86, 0.285, steps=48)
        hole[:, 0] *= 1 - 0.16 * smoothstep(0.10, 0.36, hole[:, 1])
        opening = head.at_depth(hole, 0.12 + 0.10 * np.abs(np.sin(linspace(0, 2 * np.pi, 48))))
        canvas.paint(self.light.shade(self.colour, 0.02), canvas.mask(outer, holes=(opening,)))
        ring = np.concatenate([opening, opening[:2]])
        canvas.stroke(ring, 0.010, mix(self.colour, WHITE, 0.18), 0.7)
        canvas.stroke((ring - opening.mean(0)) * 0.975 + opening.mean(0), 0.006, self.colour * 0.3, 0.25)
        centre = opening.mean(0)
        for number, share in enumerate((1.10, 1.19, 1.28)):
            start, end = 6 + 2 * number, 40 - 3 * number
            fold = (opening - centre) * (share, share) + centre
            for part in (fold[start:20], fold[26:end]):
                widths = 0.007 * np.sin(linspace(0, np.pi, len(part)))
                canvas.stroke(part, widths, self.colour * 0.55, 0.4)
