"""Beards of drawn faces."""

from __future__ import annotations

import numpy as np
from PIL import Image

from faces.drawn.canvas import SHADING_SIDE, Canvas, mix, smoothstep, spline
from faces.drawn.hair import natural_hair_colour
from faces.drawn.shape import Head
from faces.drawn.skin import Light


def paint_beard(canvas: Canvas, head: Head, light: Light) -> None:
    """Paint the beard, before the lips."""
    kind, length = head.person.beard, head.person.beard_length
    if kind == "none":
        return
    colour = mix(natural_hair_colour(head), np.array([70, 42, 30.0]), 0.15) * 0.9
    polygons = []
    if kind in ("moustache", "goatee"):
        polygons.append(_moustache(head, 0.6 + 0.6 * length))
    if kind == "goatee":
        polygons.append(_goatee(head, length))
    if kind in ("stubble", "full"):
        polygons.append(_full_beard(head, 0.0 if kind == "stubble" else 0.012 + 0.055 * length))
    softness, opacity = (0.020, 0.26 + 0.2 * length) if kind == "stubble" else (0, 0.95)
    mask = canvas.mask(*polygons, softness=softness)
    canvas.paint(light.shade(colour, contrast=0.9), mask, opacity)
    if kind == "stubble":
        return
    rng = np.random.default_rng([head.person.number, 5])
    sharp = np.asarray(mask.convert("L").resize((SHADING_SIDE, SHADING_SIDE), Image.Resampling.BOX)) > 200
    rows, columns = np.nonzero(sharp)
    chosen = rng.choice(len(rows), min(len(rows), 110), replace=False)
    roots = (np.stack([columns[chosen], rows[chosen]], axis=1) + rng.random((len(chosen), 2))) / SHADING_SIDE
    flow = np.stack([0.35 * (roots[:, 0] - 0.5), np.full(len(roots), 0.9)], axis=1) + rng.normal(
        0, 0.22, roots.shape
    )
    tips = roots + 0.030 * flow
    bright = mix(colour, np.array([255, 240, 220.0]), 0.32)
    canvas.hatch(roots[::2], tips[::2], 0.0045, colour * 0.5, 0.42)
    canvas.hatch(roots[1::2], tips[1::2], 0.004, bright, 0.30)


def _moustache(head: Head, size: float) -> np.ndarray:
    mouth, base = head.mouth["top"], head.nose["base"]
    half = mouth[-1, 0] * (0.85 + 0.25 * size)
    middle, corner = mouth[len(mouth) // 2, 1], mouth[-1, 1]
    top = [(-half, corner - 0.006), (-0.5 * half, base[1] - 0.002), (0, base[1] - 0.006)]
    bottom = [(0, middle + 0.002), (0.5 * half, middle + 0.010 * size), (half, corner + 0.008 * size)]
    mirrored = [(-x, y) for x, y in top[1::-1]], [(-x, y) for x, y in bottom[1:]]
    return head.surface(
        spline([*top, *mirrored[0], *bottom[::-1][:2], bottom[0], *mirrored[1]], 5, closed=True), 0.012
    )


def _goatee(head: Head, length: float) -> np.ndarray:
    mouth = head.mouth
    corner, low = mouth["top"][-1], mouth["bottom"][len(mouth["bottom"]) // 2, 1]
    end = head.chin_y + 0.012 + 0.06 * length
    right = [
        (0, low + 0.004),
        (corner[0] * 0.75, low + 0.002),
        (corner[0] + 0.004, corner[1] - 0.006),
        (corner[0] + 0.026, corner[1] + 0.02),
        (0.098, head.chin_y - 0.045),
        (0.055, end - 0.016),
    ]
    points = [*right, (0, end), *[(-x, y) for x, y in right[:0:-1]]]
    positions = spline(points, 5, closed=True)
    # Below the chin, where the surface ends, the beard follows the chin's depth.
    depth = np.where(positions[:, 1] > head.chin_y - 0.06, 0.20, 0.27)
    return head.at_depth(positions, depth)


def _full_beard(head: Head, length: float) -> np.ndarray:
    line = head.right_side
    outer = line[line[:, 1] > 0.015]
    grown = length * smoothstep(0.05, head.chin_y, outer[:, 1])
    outer = outer + np.stack([0.35 * grown, grown], axis=1)
    mouth, base, width = head.mouth["top"], head.nose["base"], head.width
    corner = mouth[-1]
    inner = spline(
        [
            (0.90 * width, 0.02),
            (0.84 * width, 0.09),
            (corner[0] + 0.075, corner[1] - 0.035),
            (corner[0] + 0.026, corner[1] - 0.040),
            (0.5 * corner[0], base[1] + 0.002),
            (0, base[1] - 0.004),
        ],
        5,
    )
    edge = np.concatenate([outer, outer[-2::-1] * (-1, 1)])
    upper = np.concatenate([inner, inner[-2::-1] * (-1, 1)])[::-1]
    return np.concatenate([head.edge(edge), head.surface(upper)])
