"""Light on drawn faces: the background, and soft shading of skin, hair and cloth."""

from __future__ import annotations

import functools
import math

import numpy as np

from faces.drawn.canvas import SHADING_SIDE, Shading, linspace, mix, oklch, ramp, smoothstep
from faces.drawn.shape import NOSE_LIFT, Head

SKIN = np.array([
    (252, 226, 209), (244, 206, 180), (231, 183, 150), (212, 156, 116),
    (181, 124, 83), (143, 93, 61), (104, 66, 45), (74, 47, 35),
], float)  # fmt: skip


@functools.lru_cache(maxsize=1)
def _grid() -> np.ndarray:
    centres = (np.arange(SHADING_SIDE) + 0.5) / SHADING_SIDE
    return np.stack(np.meshgrid(centres, centres), axis=-1).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _palette_weights() -> np.ndarray:
    """Weights [256, 3] of shadow, colour and highlight in each step of a palette."""
    step = np.linspace(-1.15, 1, 256)
    dark, bright = np.maximum(-step, 0), 0.85 * np.maximum(step, 0)
    return np.stack([dark, 1 - dark - bright, bright], axis=1)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(values, 0), 255).astype(np.uint8)


def skin_colour(head: Head) -> np.ndarray:
    """The skin's colour in even white light, float [3] in [0, 255]."""
    return _skin_colour(head.person.skin_tone, head.person.skin_warmth)


@functools.lru_cache(maxsize=16)
def _skin_colour(tone: float, warmth: float) -> np.ndarray:
    rosy, golden = np.array([1.0, 0.955, 0.975]), np.array([0.995, 0.99, 0.93])
    return ramp(SKIN, tone) * mix(rosy, golden, (warmth + 1) / 2)


def lip_colour(head: Head) -> np.ndarray:
    """The colour of the lips, from natural red to lipstick."""
    skin = skin_colour(head)
    natural = skin * (0.86, 0.62, 0.62) + (14, 0, 6)
    paint = mix(np.array([196, 44, 62.0]), np.array([122, 22, 44.0]), head.person.skin_tone)
    return mix(natural, paint, 0.85 * head.person.lip_colour)


class Light:
    """The light of a scene on a head, which shades whatever is painted there."""

    def __init__(self, head: Head) -> None:
        """Compute the light of `head`'s scene."""
        self.head, scene = head, head.scene
        self.flat = head.unframe(_grid()).astype(np.float32)
        x, y = self.flat[..., 0], self.flat[..., 1]
        self._basis = np.stack([x * x, x, y * y, y, np.ones_like(x)]).reshape(5, -1)
        width = np.maximum(head.half_width(np.clip(y, head.crown_y, head.chin_y)), 0.12)
        centre = ((head.slice_depth(np.minimum(y, head.chin_y)) - 0.16) * head.sin).astype(np.float32)
        self.across = np.clip((x - centre) / (width * 1.06), -1, 1).astype(np.float32)
        self.along = np.clip((y - 0.02) / 0.46, -1, 1)
        towards = np.sqrt(np.clip(1 - self.across**2 - 0.5 * self.along**2, 0, 1))
        side = np.sin(0.95 * scene.light_side)
        lamp = np.array([side, -0.42, np.sqrt(max(1 - side**2, 0.2))], np.float32)
        lamp /= np.linalg.norm(lamp)
        self.round = self.across * lamp[0] + 0.75 * self.along * lamp[1] + towards * lamp[2] - 0.62
        # Hair and cloth form broader masses with softer gradients.
        wide = np.tanh(1.5 * (x - centre) / 0.30)
        self.broad = 0.55 * lamp[0] * wide - 0.16 * wide**2 - 0.18 * self.along + 0.02
        self.side = float(side)
        self.strength = 0.35 + 0.65 * scene.light_strength
        warm = 0.05 * scene.light_warmth
        self.tint = np.array([1 + warm, 1 + 0.1 * warm, 1 - 1.2 * warm])

    def spots(self, spots: list[tuple[np.ndarray, float, float, float]]) -> np.ndarray:
        """Sum of Gaussian spots (flat position [2], two radii, height): [SHADING_SIDE, SHADING_SIDE]."""
        x, y, radius_x, radius_y, height = np.array(
            [(*position, *rest) for position, *rest in spots], np.float32
        ).T
        wide, high = radius_x**-2.0, radius_y**-2.0
        exponents = np.stack([-wide, 2 * x * wide, -high, 2 * y * high, -wide * x**2 - high * y**2], axis=1)
        # einsum, unlike a matrix product, gives the same sums for any number of threads. Clamping at e^-40
        # avoids denormal numbers, which are ten times slower.
        bells = np.einsum("ij,jk->ik", exponents, self._basis)
        np.exp(np.maximum(bells, -40, out=bells), out=bells)
        return np.einsum("i,ij->j", height, bells).reshape(SHADING_SIDE, SHADING_SIDE)

    def shade(self, colour: np.ndarray, relief: np.ndarray | float = 0, contrast: float = 1.0) -> Shading:
        """Shade hair or cloth of a colour [3]; `relief` is added to the light."""
        return self._shading(colour, self.broad, relief, contrast)

    def shade_skin(
        self, colour: np.ndarray, relief: np.ndarray | float = 0, contrast: float = 1.0
    ) -> Shading:
        """Shade skin of a colour [3]."""
        return self._shading(colour, self.round, relief, contrast)

    def _shading(
        self, colour: np.ndarray, lit: np.ndarray, relief: np.ndarray | float, contrast: float
    ) -> Shading:
        value = (1.25 * self.strength * contrast) * lit + (relief + 1.15)
        # Shadows on skin stay warm: red decreases least.
        shadow = colour * (0.60, 0.47, 0.47) + (2, 0, 8)
        bright = np.minimum(mix(colour, np.array([255, 247, 236.0]), 0.34) * 1.05, 255)
        palette = _palette_weights() @ (np.array([shadow, colour, bright]) * self.tint)
        return Shading(_bytes(value * (255 / 2.15)), _bytes(palette))

    def face(self) -> np.ndarray:
        """Skin with relief and blush: float [SHADING_SIDE, SHADING_SIDE, 3] in [0, 255]."""
        head, person, scene = self.head, self.head.person, self.head.scene
        nose, mouth, side = head.nose, head.mouth, np.sign(self.side) or 1.0
        tip, wing = nose["tip"], nose["wing"]
        smiling = max(scene.smile, 0)
        low = mouth["bottom"][len(mouth["bottom"]) // 2, 1]
        # Each: position, distance in front of the face, radii, height.
        relief = [
            (0.0, 0.065, 0.03, 0.020, 0.075, 0.22),
            (0.0, tip[1] - 0.004, NOSE_LIFT["tip"], 0.026, 0.022, 0.26),
            (-0.042 * side, tip[1] - 0.030, 0.02, 0.022, 0.060, -0.34 * self.strength),
            (0.042 * side, tip[1] - 0.020, 0.02, 0.018, 0.045, -0.15),
            (-0.008 * side, tip[1] + 0.037, 0.0, wing[0] * 0.95, 0.014, -0.36),
            (0.0, low + 0.014, 0.0, 0.055, 0.014, -0.28),
            (0.0, (low + head.chin_y) / 2 + 0.016, 0.0, 0.06, 0.026, 0.16),
            (0.0, -0.16, 0.0, 0.15, 0.07, 0.17),
        ]
        blush = [(0.0, tip[1], NOSE_LIFT["tip"], 0.045, 0.03, 0.5)]
        for left_right in (-1, 1):
            x = left_right * head.eye_centre[0]
            corner = mouth["top"][0 if left_right < 0 else -1]
            relief += [
                (x, -0.040, 0.0, 0.085, 0.036, -0.25),
                (x - 0.02 * left_right, 0.048, 0.0, 0.07, 0.022, -0.10 * (0.4 + person.age)),
                (x - 0.062 * left_right, -0.012, 0.0, 0.028, 0.05, -0.16),
                (0.155 * left_right, 0.105, 0.0, 0.075, 0.045, 0.20),
                (0.205 * left_right, 0.20, 0.0, 0.07, 0.10, -0.13 * (1 - 0.6 * person.cheek_fullness)),
                (corner[0] + 0.014 * left_right, corner[1], 0.0, 0.020, 0.026, -0.08 - 0.18 * smiling),
                (0.15 * left_right, 0.10, 0.0, 0.05, 0.032, 0.16 * smiling),
            ]
            blush.append((0.160 * left_right, 0.120, 0.0, 0.075, 0.055, 0.9))
        colour = skin_colour(head)
        shading = self.shade_skin(colour, self.spots(self._flatten(relief)))
        shaded = shading.palette.astype(np.float32).take(shading.value, axis=0)
        flushed = (colour * (1.0, 0.64, 0.62) + (8, 0, 4)).astype(np.float32)
        depth = 0.32 - 0.10 * person.skin_warmth + 0.12 * smiling
        shaded = mix(shaded, flushed, np.clip(self.spots(self._flatten(blush)), 0, 1) * depth)
        # A thin cool rim light opposite the lamp separates the head from the background.
        rim = smoothstep(0.80, 1.0, -side * self.across) * smoothstep(0.9, 0.2, np.abs(self.along))
        return mix(
            shaded, np.array([226, 232, 255], np.float32), (0.22 * self.strength * rim).astype(np.float32)
        )

    def _flatten(self, spots: list[tuple[float, ...]]) -> list[tuple]:
        x, y, lift, *_ = np.array(spots).T
        positions = self.head.project(x, y, self.head.depth(x, y) + lift)
        return [(position, *spot[3:]) for position, spot in zip(positions, spots, strict=True)]


def background(head: Head) -> Shading:
    """The wall behind the head: a gradient from a darker neighbouring hue to a soft glow."""
    scene, x, y = head.scene, _grid()[..., 0] - 0.5, _grid()[..., 1] - 0.5
    lightness = 0.58 + 0.35 * scene.background_lightness
    chroma = 0.015 + 0.115 * scene.background_saturation * (1 - 0.35 * scene.background_lightness)
    wall = oklch(lightness, chroma, scene.background_hue)
    dark = oklch(lightness - 0.14, chroma * 1.15, scene.background_hue + 0.075)
    bright = mix(wall, np.array([255, 250, 240.0]), 0.45)
    angle = 2 * np.pi * scene.background_direction
    slope = smoothstep(-0.6, 0.6, x * math.cos(angle) + y * math.sin(angle))
    glow = np.exp(-((x + 0.22 * scene.light_side) ** 2 + (y + 0.08) ** 2) / 0.13)
    value = 0.5 * slope + 0.5 * glow * (0.4 + 0.6 * slope)
    step = linspace(0, 1, 256)
    palette = np.where(step[:, None] < 0.5, mix(dark, wall, 2 * step), mix(wall, bright, 2 * step - 1))
    return Shading((255 * value).astype(np.uint8), np.clip(palette, 0, 255).astype(np.uint8))
