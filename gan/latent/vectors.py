"""Latent vectors: drawing them, going from one to another, and keeping them in files.

A latent vector z is the input of the generator, float32 [size]; it was drawn uniformly from the cube
[-1, 1]^size in training (the prior). Nothing here imports torch.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import atomic_write

Latents = NDArray[np.float32]
Interpolation = Literal["linear", "spherical"]


def draw(count: int, size: int, seed: int) -> Latents:
    """Draw `count` vectors from the prior, uniform in [-1, 1): float32 [count, size].

    Vector i of a seed is the same whatever `count` is, on every machine and with every version of
    numpy: it is made from the raw output of PCG64 (O'Neill 2014), which numpy promises never to change.

    Raises:
        ValueError: `seed` or `count` is negative, or `size` is below 1.
    """
    return _uniform(count, size, np.random.SeedSequence(seed))


def neighbours(z: Latents, reach: float, seed: int) -> Latents:
    """Nine vectors around `z` [size], for a 3 x 3 picture in which the middle is `z` itself.

    The others are `z` plus noise, uniform in [-reach, reach), as in figure 7 of Radford et al. 2015
    (reach 0.25). The noise has nothing in common with the vectors of `draw` for the same seed.

    Returns:
        float32 [9, size]; index 4 is exactly `z`.
    """
    noise = _uniform(9, len(z), np.random.SeedSequence(seed, spawn_key=(1,)))
    noise[4] = 0
    return (z + np.float32(reach) * noise).astype(np.float32)


def lerp(start: Latents, end: Latents, t: float) -> Latents:
    """The point a share `t` of the way along the straight line from `start` to `end`, float32 [size].

    Exactly `start` at 0 and `end` at 1; the line goes on beyond them. Between two points of the cube
    it stays in the cube, because a cube is convex. In many dimensions it passes through vectors much
    shorter than those of training: half-way between two draws of 100 values the norm is about 4.1,
    where that of a draw is 5.8 and varies by 0.3: weaker input than the generator was ever given.
    """
    a, b = _ends(start, end)
    return _exact_at_ends(start, end, t, a + (b - a) * t)


def slerp(start: Latents, end: Latents, t: float) -> Latents:
    """The point a share `t` of the way along the arc from `start` to `end`, float32 [size].

    Spherical linear interpolation (Shoemake 1985), proposed for latent vectors by White 2016: the
    direction turns at a constant rate in the plane of the two, the norm goes linearly from that of
    `start` to that of `end`. So the norm never leaves the range between the two. Exactly `start` at
    0 and `end` at 1; beyond them the circle goes on, with the norm of the nearer end. Swapping the
    ends and taking `1 - t` gives the same point.

    Where the arc is not defined: vectors of one direction are joined by the straight line, and so
    are those of which one is zero; of the many arcs between opposite directions a fixed one is taken
    (in one dimension, which has none, the straight line).
    """
    a, b = _ends(start, end)
    norm_a, norm_b = np.linalg.norm(a), np.linalg.norm(b)
    if norm_a == 0 or norm_b == 0:
        return lerp(start, end, t)
    from_direction, to_direction = a / norm_a, b / norm_b
    cosine = from_direction @ to_direction
    across = to_direction - cosine * from_direction
    sine = np.linalg.norm(across)
    # Rounding alone leaves an `across` of about 1e-16, whose direction means nothing.
    if sine < 1e-12:
        if cosine > 0 or len(a) == 1:
            return lerp(start, end, t)
        across, sine = _perpendicular(from_direction), 0.0
    # The arc tangent is exact at small and at large angles, where the arc cosine loses half its digits.
    angle = np.arctan2(sine, cosine)
    across /= np.linalg.norm(across)
    norm = norm_a + (norm_b - norm_a) * np.clip(t, 0.0, 1.0)
    point = norm * (np.cos(angle * t) * from_direction + np.sin(angle * t) * across)
    return _exact_at_ends(start, end, t, point)


def interpolate(
    points: Latents, steps: int, method: Interpolation = "spherical", *, loop: bool = False
) -> Latents:
    """A way through two or more points, float32 [M, size].

    Args:
        points: float32 [K, size], K of at least 2.
        steps: vectors from one point to the next, both counted, at least 2.
        method: `linear` (`lerp`) or `spherical` (`slerp`). For a Gaussian prior `spherical` is right:
            that prior knows no direction, and nearly all of its vectors are of one length, which the
            arc keeps and the straight line does not. For the uniform prior of this project neither is
            perfect. `linear` is the one that stays in the cube, but at the cost of length (see
            `lerp`). `spherical` keeps the length, and half-way between two draws each value keeps
            the mean and the variance of the prior; about 9 in 100 values leave [-1, 1], mostly by
            less than 0.3. The generator's first layer only sees weighted sums of all values, for
            which mean and variance are nearly everything and a single value's bounds nearly nothing:
            so `spherical` is the default here too. `clamp_to_prior` brings its values back.
        loop: also goes from the last point back to the first, and stops one step before it, so that
            a film of the path repeats without a halt.

    Returns:
        Every point itself, each once, and what is between: M = (K - 1) * (steps - 1) + 1, or
        K * (steps - 1) for a loop.

    Raises:
        ValueError: fewer than 2 points or 2 steps, or another method.
    """
    if len(points) < 2 or steps < 2:
        raise ValueError(f"a path needs at least 2 points and 2 steps, not {len(points)} and {steps}")
    between = {"linear": lerp, "spherical": slerp}.get(method)
    if between is None:
        raise ValueError(f"the method is 'linear' or 'spherical', not {method!r}")
    stops = [*points, points[0]] if loop else list(points)
    shares = np.arange(steps - 1) / (steps - 1)
    vectors = [between(a, b, t) for a, b in pairwise(stops) for t in shares]
    return np.stack(vectors if loop else [*vectors, stops[-1]]).astype(np.float32)


def clamp_to_prior(z: Latents) -> Latents:
    """The nearest vectors of the prior's cube: every value clamped to [-1, 1]."""
    return np.clip(z, -1.0, 1.0)


def values_outside_prior(z: Latents) -> tuple[int, float]:
    """How many of the values lie outside [-1, 1], and by how much the farthest one does (0.0 if none)."""
    excess = np.abs(z) - 1.0
    return int((excess > 0).sum()), float(max(excess.max(initial=0.0), 0.0))


def save_latents(file: str | Path, z: Latents) -> None:
    """Write vectors [N, size] as a .npy file of float32, which `load_latents` and numpy read.

    Raises:
        OSError: the file cannot be written; an earlier one of that name is untouched.
    """
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.asarray(z, np.float32), allow_pickle=False)


def load_latents(file: str | Path, size: int) -> Latents:
    """Read vectors for a generator that takes `size` values: float32 [N, size], N of at least 1.

    Nothing in the file is ever run: one that holds Python objects is refused.

    Raises:
        UserError: there is no such file, it is not a .npy file of numbers [N, size], or some of its
            values are not finite.
    """
    try:
        # Mapped, a file whose header promises more than it holds is refused before memory is taken.
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"cannot read latents from {file}: {error.strerror or error}") from error
    except (ValueError, EOFError, OverflowError, SyntaxError, BadZipFile) as error:
        raise UserError(f"{file} is not a .npy file of latent vectors, or is cut short: {error}") from error
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "fiu":
        raise UserError(f"{file} is not a .npy file of numbers; latents are those saved beside a picture")
    if stored.ndim != 2 or not len(stored):
        raise UserError(f"{file} holds an array {list(stored.shape)}; latents are [N, {size}] with N >= 1")
    if stored.shape[1] != size:
        raise UserError(f"{file} holds vectors of {stored.shape[1]} values; this generator takes {size}")
    with np.errstate(over="ignore"):
        z = np.array(stored, np.float32)
    broken = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if len(broken):
        raise UserError(f"{file}: vector {broken[0]} holds a value that is not a finite number")
    return z


def _uniform(count: int, size: int, seed: np.random.SeedSequence) -> Latents:
    if count < 0 or size < 1:
        raise ValueError(f"cannot draw {count} vectors of {size} values")
    raw = np.random.PCG64(seed).random_raw(count * size)
    # The top 24 bits: as many as float32 holds exactly, so every value is a multiple of 2^-23.
    return ((raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - 1).reshape(count, size)


def _ends(start: Latents, end: Latents) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.asarray(start, np.float64), np.asarray(end, np.float64)


def _exact_at_ends(start: Latents, end: Latents, t: float, point: NDArray[np.float64]) -> Latents:
    exact = {0.0: start, 1.0: end}.get(float(t), point)
    return np.array(exact, np.float32)


def _perpendicular(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """A vector at right angles to `direction`, the same one for the opposite direction."""
    axis = np.zeros_like(direction)
    axis[np.argmin(np.abs(direction))] = 1.0
    return axis - (axis @ direction) * direction
