"""Drawing primitives: splines, colours, and an antialiased canvas."""

from __future__ import annotations

import functools
import math
import typing

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLING = 3
MIN_PAINTED_SIDE = 224
"""Minimum side in pixels at which to paint, so that fine strokes are not too thick in small images."""

SHADING_SIDE = 64
"""Side of the arrays of smooth shading, which are upscaled to the canvas."""


@functools.lru_cache(maxsize=256)
def _spline_matrix(count: int, steps: int, closed: bool) -> np.ndarray:
    segments = count if closed else count - 1
    t = np.arange(steps) / steps
    basis = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]
    )
    matrix = np.zeros((segments * steps + (not closed), count))
    for segment in range(segments):
        for neighbour in range(4):
            index = segment + neighbour - 1
            index = index % count if closed else min(max(index, 0), count - 1)
            matrix[segment * steps : (segment + 1) * steps, index] += basis[neighbour]
    if not closed:
        matrix[-1, -1] = 1
    return matrix


def spline(points: np.ndarray | list, steps: int = 8, closed: bool = False) -> np.ndarray:
    """A uniform Catmull-Rom spline (1974) through `points` [n, 2]: [(n - 1) * steps + 1, 2].

    A closed spline returns to its start and has [n * steps, 2] points.
    """
    points = np.asarray(points, dtype=float)
    return _spline_matrix(len(points), steps, closed) @ points


@functools.lru_cache(maxsize=256)
def linspace(low: float, high: float, count: int) -> np.ndarray:
    """`np.linspace`, cached and read-only."""
    numbers = np.linspace(low, high, count)
    numbers.flags.writeable = False
    return numbers


def stroke_outline(points: np.ndarray, widths: np.ndarray | float) -> np.ndarray:
    """Outlines [..., 2n, 2] of strokes along `points` [..., n, 2] with `widths`, [n] or a scalar."""
    points = np.asarray(points)
    count = points.shape[-2]
    after, before = _neighbours(count)
    along = points.take(after, axis=-2) - points.take(before, axis=-2)
    x, y = along[..., 0], along[..., 1]
    reach = 0.5 * np.asarray(widths) / np.sqrt(x * x + y * y + 1e-18)
    across = along[..., ::-1] * (reach[..., None] * (-1.0, 1.0))
    outline = np.empty((*points.shape[:-2], 2 * count, 2))
    np.add(points, across, out=outline[..., :count, :])
    np.subtract(points, across, out=outline[..., : count - 1 : -1, :])
    return outline


@functools.lru_cache(maxsize=64)
def _neighbours(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices [count] of the points after and before each point, clamped at the ends."""
    numbers = np.arange(count)
    return np.minimum(numbers + 1, count - 1), np.maximum(numbers - 1, 0)


def ellipse(
    x: float, y: float, radius_x: float, radius_y: float | None = None, steps: int = 24
) -> np.ndarray:
    """An ellipse centred at (x, y) as a polygon [steps, 2]."""
    return _circle(steps) * (radius_x, radius_x if radius_y is None else radius_y) + (x, y)


@functools.lru_cache(maxsize=16)
def _circle(steps: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def translate(points: np.ndarray, x: float, y: float) -> np.ndarray:
    """`points` [..., 2] moved by (x, y)."""
    return points + np.array((x, y))


def smoothstep(low: float, high: float, value: np.ndarray | float) -> np.ndarray:
    """0 below `low`, 1 above `high`, with a smooth transition."""
    t = np.minimum(np.maximum((value - low) / (high - low), 0), 1)
    return t * t * (3 - 2 * t)


def oklch(lightness: float, chroma: float, hue: float) -> np.ndarray:
    """OKLCH, a perceptually uniform colour space (Ottosson 2020), to sRGB, float [3] in [0, 255].

    Lightness in [0, 1], chroma from 0 (grey) to about 0.3, hue in turns (0 = pink, 0.25 = yellow).
    Colours outside sRGB are clipped.
    """
    a, b = chroma * math.cos(2 * math.pi * hue), chroma * math.sin(2 * math.pi * hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return 255 * np.array([_gamma(min(max(value, 0.0), 1.0)) for value in linear])


def _gamma(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def mix(first: np.ndarray, second: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Interpolate from `first` (share 0) to `second` (share 1); a share [H, W] gives [H, W, 3]."""
    share = np.asarray(share)[..., None] if np.ndim(share) else share
    return first + (np.asarray(second) - first) * share


def ramp(colours: np.ndarray, position: float) -> np.ndarray:
    """The colour, float [3] in [0, 255], at `position` in [0, 1] along evenly spaced `colours` [n, 3]."""
    offset = position * (len(colours) - 1)
    first = min(int(offset), len(colours) - 2)
    return colours[first] + (colours[first + 1] - colours[first]) * (offset - first)


@functools.lru_cache(maxsize=256)
def _opacity_table(opacity: float) -> list[int]:
    return [round(value * opacity) for value in range(256)]


class Shading(typing.NamedTuple):
    """A colour under varying light: the light at each position, and the colour for each level of light."""

    value: np.ndarray  # uint8 [SHADING_SIDE, SHADING_SIDE]
    palette: np.ndarray  # uint8 [256, 3]


class Canvas:
    """A square RGB image of `size` pixels, painted at a multiple of the size and reduced at the end.

    Points are fractions of the side, (0, 0) at the top left. Colours are floats [3] in [0, 255].
    """

    def __init__(self, size: int) -> None:
        """Create a black canvas."""
        self.size = size
        self.scale = max(SUPERSAMPLING, math.ceil(MIN_PAINTED_SIDE / size))
        self.side = size * self.scale
        self.image = Image.new("RGB", (self.side, self.side))
        # Drawing in RGBA on an RGB image blends by the alpha channel.
        self._pen = ImageDraw.Draw(self.image, "RGBA")

    def fill(self, points: np.ndarray, colour: np.ndarray, opacity: float = 1.0) -> None:
        """Fill one polygon, [n, 2], or several, [k, n, 2]."""
        red, green, blue = np.minimum(colour, 255).astype(int).tolist()
        ink = (red, green, blue, round(255 * opacity))
        for polygon in self._pixels(points):
            self._pen.polygon(polygon, fill=ink)

    def stroke(
        self, points: np.ndarray, widths: np.ndarray | float, colour: np.ndarray, opacity: float = 1.0
    ) -> None:
        """Draw strokes along `points` [n, 2] or [k, n, 2] with `widths` [n] or a scalar, as fractions."""
        self.fill(stroke_outline(points, widths), colour, opacity)

    def hatch(
        self, starts: np.ndarray, ends: np.ndarray, width: float, colour: np.ndarray, opacity: float
    ) -> None:
        """Draw straight lines from `starts` to `ends`, both [n, 2]."""
        red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
        thickness, ink = max(1, round(width * self.side)), (red, green, blue, round(255 * opacity))
        for line in (np.concatenate([starts, ends], axis=1) * self.side).tolist():
            self._pen.line(line, fill=ink, width=thickness)

    def mask(
        self, *polygons: np.ndarray, holes: tuple[np.ndarray, ...] = (), softness: float = 0
    ) -> Image.Image:
        """The union of `polygons`, each [n, 2] or several [k, n, 2], without `holes`.

        An image of mode 1, with which pasting takes a third of the time, or of mode L with edges blurred by
        `softness` (a fraction of the side).
        """
        mask = Image.new("1", (self.side, self.side))
        pen = ImageDraw.Draw(mask)
        for shapes, value in ((polygons, 1), (holes, 0)):
            for polygon in (pixels for shape in shapes for pixels in self._pixels(shape)):
                pen.polygon(polygon, fill=value)
        return self._blur(mask, softness) if softness else mask

    def _blur(self, mask: Image.Image, softness: float) -> Image.Image:
        # Blurring at the final size takes a tenth of the time and loses no visible detail.
        small = mask.convert("L").reduce(self.scale).filter(ImageFilter.GaussianBlur(softness * self.size))
        return small.resize(mask.size, Image.Resampling.NEAREST)

    def coverage(self, *polygons: np.ndarray, softness: float) -> np.ndarray:
        """Blurred coverage by `polygons`: float32 [SHADING_SIDE, SHADING_SIDE] in [0, 1]."""
        field = self.mask(*polygons).convert("L").reduce(self.scale)
        field = field.resize((SHADING_SIDE, SHADING_SIDE), Image.Resampling.BOX).filter(
            ImageFilter.GaussianBlur(softness * SHADING_SIDE)
        )
        return np.asarray(field, np.float32) / 255

    def paint(
        self, layer: np.ndarray | Shading, mask: Image.Image | None = None, opacity: float = 1.0
    ) -> None:
        """Paint a colour [3], a shading, or an array [SHADING_SIDE, SHADING_SIDE, 3] through `mask`."""
        box = (0, 0, self.side, self.side) if mask is None else self._snap_to_pixels(mask.getbbox())
        if box is None:
            return
        if mask is not None:
            mask = mask.crop(box)
            if opacity < 1:
                mask = mask.convert("L").point(_opacity_table(opacity))
        if isinstance(layer, np.ndarray) and layer.ndim == 1:
            self.image.paste(tuple(np.clip(layer, 0, 255).astype(int).tolist()), box, mask)
            return
        field = layer.value if isinstance(layer, Shading) else np.clip(layer, 0, 255).astype(np.uint8)
        # Smooth layers need only the final resolution; only masks are finer.
        width, height = box[2] - box[0], box[3] - box[1]
        soft = Image.fromarray(field).resize(
            (width // self.scale, height // self.scale),
            Image.Resampling.BILINEAR,
            tuple(edge * SHADING_SIDE / self.side for edge in box),
        )
        if isinstance(layer, Shading):
            soft.putpalette(layer.palette.tobytes())
            soft = soft.convert("RGB")
        self.image.paste(soft.resize((width, height), Image.Resampling.NEAREST), box, mask)

    def overlay(self, other: Canvas, mask: Image.Image) -> None:
        """Paste another canvas through `mask`."""
        box = mask.getbbox()
        if box is not None:
            self.image.paste(other.image.crop(box), box, mask.crop(box))

    def to_array(self) -> np.ndarray:
        """The image, uint8 [size, size, 3]."""
        return np.asarray(self.image.reduce(self.scale))

    def _snap_to_pixels(self, box: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """Expand a box, if there is one, to whole pixels of the final image."""
        if box is None:
            return None
        step, (left, top, right, bottom) = self.scale, box
        return left // step * step, top // step * step, -(-right // step) * step, -(-bottom // step) * step

    def _pixels(self, points: np.ndarray) -> list[list[float]]:
        pixels = np.asarray(points) * self.side - 0.5
        return pixels.reshape(-1, 2 * pixels.shape[-2]).tolist()
