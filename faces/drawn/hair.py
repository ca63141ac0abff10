"""Hair of drawn faces."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image, ImageChops

from faces.drawn.canvas import (
    Canvas,
    ellipse,
    linspace,
    mix,
    oklch,
    ramp,
    smoothstep,
    spline,
    stroke_outline,
    translate,
)
from faces.drawn.shape import Head
from faces.drawn.skin import Light

BROWN = np.array(
    [(26, 22, 25), (52, 34, 28), (92, 59, 39), (140, 96, 58), (206, 164, 102), (240, 216, 166)], float
)
RED = np.array(
    [(34, 20, 22), (82, 34, 24), (138, 58, 32), (186, 90, 46), (222, 134, 74), (240, 182, 124)], float
)


@dataclasses.dataclass(frozen=True)
class HairCut:
    """A hair style; lengths in head coordinates."""

    top: float  # thickness on the crown
    sides: float  # thickness on the sides
    hairline: float = -0.235  # y of the hairline in the middle
    sweep: float = 0.0  # how far the hair falls over the forehead
    fall: float | None = None  # y of the ends; None: the ears
    wave: float = 0.0
    locks: float = 0.0  # raggedness of the edges
    curl: float = 0.0  # radius of the curls
    fringe: bool = False
    knot: str | None = None
    opacity: float = 1.0
    bare_top: bool = False


HAIR_CUTS = {
    "buzz": HairCut(0.007, 0.003, opacity=0.80),
    "receding": HairCut(0.004, 0.024, bare_top=True),
    "short": HairCut(0.046, 0.014, hairline=-0.225, sweep=0.040, locks=0.030),
    "quiff": HairCut(0.070, 0.008, hairline=-0.235, sweep=0.006, locks=0.012),
    "curly": HairCut(0.050, 0.030, hairline=-0.205, curl=0.040),
    "afro": HairCut(0.080, 0.085, hairline=-0.215, curl=0.032),
    "fringe": HairCut(0.040, 0.040, fall=0.27, fringe=True),
    "bob": HairCut(0.042, 0.050, sweep=0.05, fall=0.25),
    "long": HairCut(0.038, 0.042, sweep=0.035, fall=0.62),
    "wavy": HairCut(0.048, 0.062, sweep=0.045, fall=0.60, wave=0.016),
    "bun": HairCut(0.014, 0.006, hairline=-0.240, knot="bun"),
    "ponytail": HairCut(0.024, 0.010, sweep=0.028, knot="tail"),
}


def hair_colour(head: Head) -> np.ndarray:
    """The hair's colour, float [3] in [0, 255]."""
    person = head.person
    dye = oklch(0.42 + 0.28 * person.hair_lightness, 0.15, person.hair_dye_hue)
    return mix(natural_hair_colour(head), dye, 0.85 * person.hair_dye)


def natural_hair_colour(head: Head) -> np.ndarray:
    """The colour of brows, beard and undyed hair, float [3] in [0, 255]."""
    person = head.person
    young = mix(
        ramp(BROWN, person.hair_lightness), ramp(RED, person.hair_lightness), 0.9 * person.hair_redness
    )
    return mix(young, np.array([204, 203, 208.0]), 0.9 * person.hair_grey)


class Hair:
    """The hair of a person in a scene, painted partly behind and partly in front of the face."""

    def __init__(self, head: Head, light: Light) -> None:
        """Compute the outlines of the hair, flattened under a hat."""
        self.head, self.light = head, light
        person, hat = head.person, head.scene.hat
        self.cut = None if hat == "headscarf" else HAIR_CUTS.get(person.hair_style)
        self.colour = hair_colour(head)
        if self.cut is None:
            return
        growth = 1 + 0.28 * person.hair_volume
        self.top, self.sides = self.cut.top * growth, self.cut.sides * growth
        self.fall = self.cut.fall
        if self.fall is not None:
            self.fall += 0.05 * person.hair_length
        if hat != "none":
            self.top, self.sides = min(self.top, 0.015), min(self.sides, 0.035)
        self.covered = hat != "none"
        self.part = 0.13 * person.hair_parting
        self.layer = light.shade(self.colour, self._sheen(), contrast=0.85)
        crest = self._crest()
        self.panels = [self._panel(side, crest) for side in (-1, 1)]
        self.light_strands = mix(self.colour, np.array([255, 244, 226.0]), 0.36)
        self.dark_strands = self.colour * 0.52

    def _sheen(self) -> np.ndarray:
        x, y = self.light.flat[..., 0], self.light.flat[..., 1]
        ring = np.sqrt((x * 1.05) ** 2 + ((y + 0.02) * 0.95) ** 2)
        glow = np.exp(-(((ring - 0.315) / 0.032) ** 2)) * np.clip(self.light.round + 0.77, 0, 1)
        return 0.42 * glow - 0.30 * smoothstep(0.0, 0.5, y)

    def _crest(self) -> np.ndarray:
        """The outer edge [n, 2] over the head, from the left to the right ear."""
        line = self.head.right_side
        line = line[line[:, 1] < 0.03]
        outward = np.gradient(line, axis=0)[:, ::-1] * (1, -1)
        outward /= np.hypot(outward[:, 0], outward[:, 1])[:, None]
        way = linspace(0, 1, len(line))
        off = self.top + (self.sides - self.top) * smoothstep(0.25, 0.95, way)
        right = line + outward * off[:, None]
        crest = np.concatenate([right[:0:-1] * (-1, 1), right])
        lean = np.sign(self.part) or 1.0
        if self.cut.locks and not self.covered:
            rise = self.top * (0.32 if self.cut.sweep > 0.01 else 0.60)
            crest[:, 1] -= rise * np.exp(-(((crest[:, 0] + 0.10 * lean) / 0.12) ** 2))
            tufts = np.abs(np.sin(21 * crest[:, 0] * lean + 0.6)) + 0.5 * np.abs(
                np.sin(37 * crest[:, 0] + 1)
            ) * smoothstep(-0.10, -0.30, crest[:, 1])
            crest[:, 1] -= 0.4 * self.cut.locks * tufts
        return crest

    def _panel(self, side: int, crest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outer and inner edge [40, 2] of the hair on one side, from the parting to the ends."""
        head, cut, part, width = self.head, self.cut, self.part, self.head.width
        split = int(np.argmin(np.abs(crest[:, 0] - 0.9 * part)))
        outer = crest[split:] if side > 0 else crest[split::-1]
        if cut.bare_top:
            outer = outer[side * outer[:, 0] > 0.74 * width]
        over = 1.15 if side * part < 0 else 0.45
        reach = width - side * part
        inner = [
            (part, cut.hairline - 0.012),
            (part + side * 0.25 * reach, cut.hairline + 0.35 * cut.sweep * over),
            (part + side * 0.62 * reach, cut.hairline + 0.045 + cut.sweep * over),
            (side * 0.90 * width, -0.115 + 0.3 * cut.sweep),
        ]
        if cut.bare_top:
            inner = [outer[0], (side * 0.76 * width, -0.20), (side * 0.83 * width, -0.14), inner[-1]]
        outer = head.edge(outer, 0.0)
        if self.fall is None:
            inner = spline([*inner, (side * 0.945 * width, -0.03), (side * 0.965 * width, 0.045)], 8)
            way = linspace(0, 1, len(inner))
            # Locks have sharp tips and round gaps; two frequencies make them irregular.
            lock = 1 - 0.65 * np.abs(np.sin(15 * way + 1.2 * side)) - 0.35 * np.abs(np.sin(24.5 * way + 0.5))
            inner[:, 1] += cut.locks * lock * smoothstep(0.75, 0.5, way)
            outer = np.concatenate([outer, head.edge([(side * 0.995 * width, 0.055)], 0.0)])
            return _resample(outer, 40), _resample(head.surface(inner), 40)
        flare = width + self.sides
        down = linspace(0.06, self.fall, 12)
        ripple = cut.wave * np.sin(34 * down + 1.3 * side)
        tuck = smoothstep(self.fall - 0.10, self.fall, down) * (0.035 if self.fall < 0.4 else 0.0)
        bulge = 0.020 * np.sin(np.pi * np.minimum((down - 0.06) / 0.45, 1))
        outside = flare + bulge + ripple - tuck
        inside = width * (0.93 - 0.10 * smoothstep(0.0, 0.25, down)) + 0.5 * ripple - 0.01
        outer = np.concatenate([outer, head.edge(np.stack([side * outside, down], 1), -0.02)])
        strand = head.at_depth(np.stack([side * inside, down + 0.02], 1), 0.05)
        inner = spline(np.concatenate([head.surface(spline(inner, 2)), strand]), 2)
        return _resample(outer, 40), _resample(inner, 40)

    def paint_behind(self, canvas: Canvas) -> None:
        """Paint the hair behind head and neck."""
        if self.cut is None:
            return
        left, right = (outer for outer, _ in self.panels)
        back = np.concatenate([left, right[::-1]])
        if self.fall is not None:
            canvas.paint(self.light.shade(self.colour * 0.62, -0.25), canvas.mask(back))
        if self.covered:
            return
        if self.cut.curl:
            self._paint_outer_curls(canvas, back)
        elif self.cut.knot == "bun":
            self._paint_bun(canvas)
        elif self.cut.knot == "tail":
            self._paint_tail(canvas)

    def _paint_bun(self, canvas: Canvas) -> None:
        x, y, radius = (
            0.02 * np.sign(self.part),
            self.head.crown_y - 0.022,
            0.085 * (1 + 0.2 * self.head.person.hair_volume),
        )
        canvas.paint(
            self.layer, canvas.mask(self.head.at_depth(ellipse(x, y, radius * 1.12, radius * 0.9), -0.06))
        )
        turns = np.array([0.35, 0.6, 0.85])[:, None, None]
        rings = (
            ellipse(0, 0, 1.1 * radius, 0.85 * radius)[11:24] * turns + np.array([0, 0.02]) * turns + (x, y)
        )
        canvas.stroke(self.head.at_depth(rings, -0.06), 0.005, self.dark_strands, 0.35)

    def _paint_tail(self, canvas: Canvas) -> None:
        side, person = -1 if self.part > 0 else 1, self.head.person
        end = 0.40 + 0.08 * person.hair_length
        spine = [(0.15, -0.30), (0.27, -0.285), (0.345, -0.17), (0.365, 0.06), (0.335, 0.25), (0.355, end)]
        spine = self.head.at_depth(spline(np.array(spine) * (side, 1), 6), -0.10)
        way = linspace(0, 1, len(spine))
        widths = 0.105 * (1 + 0.2 * person.hair_volume) * (0.45 + 0.75 * np.sin(np.pi * (0.12 + 0.82 * way)))
        canvas.paint(self.light.shade(self.colour * 0.92), canvas.mask(stroke_outline(spine, widths)))
        shares = np.array([-0.6, -0.25, 0.1, 0.45])[:, None, None]
        canvas.stroke(spine + shares * np.outer(widths, (0.5, 0)), 0.004, self.dark_strands, 0.4)

    def outline(self) -> list[np.ndarray]:
        """Polygons of the hair in front of the face."""
        if self.cut is None:
            return []
        polygons = [np.concatenate([outer, inner[::-1]]) for outer, inner in self.panels]
        if self.cut.fringe:
            high, low = self._fringe()
            polygons.append(np.concatenate([high, low[::-1]]))
        return polygons

    def _fringe(self) -> tuple[np.ndarray, np.ndarray]:
        head, width, along = self.head, self.head.width, linspace(-1, 1, 15)
        drop = -0.088 - 0.02 * head.person.hair_length
        bottom = np.stack([along * 0.90 * width, drop + 0.035 * along**4 - 0.008 * np.cos(9 * along)], axis=1)
        top = np.stack([along * 0.86 * width, -0.335 + 0.15 * along**2], axis=1)
        return head.surface(top), head.surface(bottom, 0.012)

    def paint_front(self, canvas: Canvas, head_mask: Image.Image) -> None:
        """Paint the hair in front of the head."""
        if self.cut is None:
            return
        if self.cut.opacity < 1:
            # Short-cropped hair fades on the forehead, but ends with the head outside.
            soft = canvas.mask(*self.outline(), softness=0.012)
            canvas.paint(self.layer, ImageChops.multiply(soft, head_mask.convert("L")), self.cut.opacity)
            return
        canvas.paint(self.layer, canvas.mask(*self.outline()))
        if self.cut.curl:
            self._paint_inner_curls(canvas)
        else:
            self._paint_strands(canvas)

    def _paint_strands(self, canvas: Canvas) -> None:
        shares = linspace(0.10, 0.90, 8)
        for outer, inner in self.panels:
            span = linspace(0, 1, len(outer))
            waver = 0.05 * np.sin(6 * span + 2.3 * np.arange(8)[:, None])
            strands = inner + (outer - inner) * (shares[:, None] + waver)[..., None]
            if self.cut.locks:
                # Short hair is combed from the crown to the edge, not along it.
                roots, tips = outer[1:-6:3], inner[1:-6:3]
                strands = roots[:, None] + (tips - roots)[:, None] * linspace(0.06, 0.94, 7)[None, :, None]
                strands = strands + (0.018 * np.sign(self.part) * np.sin(linspace(0, np.pi, 7)))[:, None] * (
                    1,
                    0,
                )
                span = linspace(0, 1, 7)
            widths = 0.0055 * np.sin(np.pi * (span * 0.96 + 0.02)) ** 0.7
            canvas.stroke(strands[::2], widths, self.dark_strands, 0.34)
            canvas.stroke(strands[1::2], widths, self.light_strands, 0.26)
        if self.cut.fringe:
            high, low = self._fringe()
            strands = high[1:-1, None] + (low - high)[1:-1, None] * linspace(0, 1, 7)[None, :, None]
            strands = strands - np.sin(linspace(0, np.pi, 7))[:, None] * (0.0, 0.008)
            widths = 0.0055 * np.sin(linspace(0.2, 2.9, 7))
            canvas.stroke(strands[::2], widths, self.dark_strands, 0.3)
            canvas.stroke(strands[1::2], widths, self.light_strands, 0.3)
        elif not (self.cut.locks or self.cut.bare_top):
            start, end = self.panels[0][0][0], self.panels[0][1][0]
            canvas.stroke(
                np.stack([start, (start + end) / 2, end]), (0.002, 0.005, 0.001), self.dark_strands, 0.6
            )

    def _paint_outer_curls(self, canvas: Canvas, back: np.ndarray) -> None:
        rng = np.random.default_rng([self.head.person.number, 2])
        positions = back[:: 3 if self.cut.curl > 0.035 else 2]
        positions = positions + rng.normal(0, 0.004, positions.shape)
        radii = self.cut.curl * rng.uniform(0.85, 1.25, len(positions))
        bumps = ellipse(0, 0, 1, steps=16) * radii[:, None, None] + positions[:, None]
        canvas.paint(self.layer, canvas.mask(back, bumps))
        positions = np.repeat(back[::2], 2, axis=0)
        self._paint_curls(canvas, positions + rng.normal(0, 0.016, positions.shape), rng)

    def _paint_inner_curls(self, canvas: Canvas) -> None:
        rng = np.random.default_rng([self.head.person.number, 4])
        for outer, inner in self.panels:
            edge = ellipse(0, 0, 0.6 * self.cut.curl, steps=14) + translate(inner[:30:3], 0, -0.012)[:, None]
            canvas.paint(self.layer, canvas.mask(edge))
            shares = linspace(0.12, 0.64 if self.covered else 0.9, 4)[:, None, None]
            positions = (inner + (outer - inner) * shares)[:, 1::3].reshape(-1, 2)
            self._paint_curls(canvas, positions + rng.normal(0, 0.010, positions.shape), rng)

    def _paint_curls(self, canvas: Canvas, positions: np.ndarray, rng: np.random.Generator) -> None:
        starts = rng.uniform(0, 2 * np.pi, len(positions))
        radii = self.cut.curl * rng.uniform(0.40, 0.62, len(positions))
        angles = starts[:, None] + linspace(0, 3.6, 8)
        arcs = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * radii[:, None, None] + positions[:, None]
        upper = np.sin(starts + 1.8) < 0
        widths = 0.0075 * np.sin(linspace(0.3, 2.84, 8))
        canvas.stroke(arcs[upper], widths, self.light_strands, 0.32)
        canvas.stroke(arcs[~upper], widths, self.dark_strands, 0.44)


def _resample(points: np.ndarray, count: int) -> np.ndarray:
    """Resample a polyline, [n, 2], to `count` points at equal distances."""
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    positions = np.linspace(0, way[-1], count)
    return np.stack([np.interp(positions, way, points[:, axis]) for axis in (0, 1)], axis=1)
