"""Draw, interpolate, save and load latent vectors.

A latent vector z, float32 [size], is the input of the generator. Its prior is uniform in the cube
[-1, 1]^size. Nothing here imports torch.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import atomic_write
from gan.latent import Interpolation

Latents = NDArray[np.float32]


def draw(count: int, size: int, seed: int) -> Latents:
    """Draw `count` vectors from the prior, uniform in [-1, 1): float32 [count, size].

    Vector i of a seed does not depend on `count`, the machine or the version of NumPy: it is computed from
    the raw output of PCG64 (O'Neill 2014), which NumPy guarantees not to change.

    Raises:
        ValueError: `seed` or `count` is negative, or `size` is below 1.
    """
    return _uniform(count, size, np.random.SeedSequence(seed))


def neighbours(z: Latents, radius: float, seed: int) -> Latents:
    """Nine vectors for a 3 x 3 grid: `z` [size] in the centre, the others with noise added.

    The noise is uniform in [-radius, radius), as in figure 7 of Radford et al. 2015 (radius 0.25), and
    independent of the vectors of `draw` for the same seed.

    Returns:
        float32 [9, size]; index 4 is exactly `z`.
    """
    noise = _uniform(9, len(z), np.random.SeedSequence(seed, spawn_key=(1,)))
    noise[4] = 0
    return (z + np.float32(radius) * noise).astype(np.float32)


def lerp(start: Latents, end: Latents, t: float) -> Latents:
    """Linear interpolation: the point at `t` on the straight line from `start` to `end`, float32 [size].

    Exactly `start` at 0 and `end` at 1; other values extrapolate. Between two points of the cube the line
    stays in the cube, which is convex. In many dimensions it passes through vectors much shorter than
    those of training: half-way between two draws of 100 values the norm is about 4.1, while the norm of a
    draw is 5.8 with a standard deviation of 0.3.
    """
    a, b = _ends(start, end)
    return _exact_at_ends(start, end, t, a + (b - a) * t)


def slerp(start: Latents, end: Latents, t: float) -> Latents:
    """Spherical linear interpolation: the point at `t` on the arc from `start` to `end`, float32 [size].

    The method is by Shoemake (1985), its use for latent vectors by White (2016). The direction turns at a
    constant rate in the plane of the two vectors, and the norm changes linearly, so it stays between
    theirs. Exactly `start` at 0 and `end` at 1; other values continue the circle with the norm of the
    nearer end. `slerp(a, b, t)` equals `slerp(b, a, 1 - t)`.

    Parallel vectors, and pairs with a zero vector, are interpolated linearly. Of the many arcs between
    opposite vectors a fixed one is used (in one dimension, which has none, the straight line).
    """
    a, b = _ends(start, end)
    norm_a, norm_b = np.linalg.norm(a), np.linalg.norm(b)
    if norm_a == 0 or norm_b == 0:
        return lerp(start, end, t)
    start_direction, end_direction = a / norm_a, b / norm_b
    cosine = start_direction @ end_direction
    orthogonal = end_direction - cosine * start_direction
    sine = np.linalg.norm(orthogonal)
    # Rounding errors alone give about 1e-16, in an arbitrary direction.
    if sine < 1e-12:
        if cosine > 0 or len(a) == 1:
            return lerp(start, end, t)
        orthogonal, sine = _perpendicular(start_direction), 0.0
    # The arc cosine would lose half of its digits at angles near 0 and pi.
    angle = np.arctan2(sine, cosine)
    orthogonal /= np.linalg.norm(orthogonal)
    norm = norm_a + (norm_b - norm_a) * np.clip(t, 0.0, 1.0)
    point = norm * (np.cos(angle * t) * start_direction + np.sin(angle * t) * orthogonal)
    return _exact_at_ends(start, end, t, point)


def interpolate(
    points: Latents, steps: int, method: Interpolation = "spherical", *, loop: bool = False
) -> Latents:
    """Interpolate along a path through two or more points, float32 [M, size].

    Args:
        points: float32 [K, size], K of at least 2.
        steps: vectors from one point to the next, both included, at least 2.
        method: `linear` (`lerp`) or `spherical` (`slerp`). For a Gaussian prior `spherical` is right: the
            prior is isotropic and nearly all of its vectors have the same length, which the arc preserves.
            For the uniform prior of this project neither is perfect. `linear` stays in the cube at the cost
            of length (see `lerp`). `spherical` keeps the length, and half-way between two draws each value
            has the mean and variance of the prior; about 9 percent of the values leave [-1, 1], mostly by
            less than 0.3. The generator's first layer computes weighted sums of all values, which depend
            on mean and variance much more than on the bounds of single values, so `spherical` is the
            default. `clamp_to_prior` clamps the values.
        loop: continue from the last point to the first and stop one step before it, so that a film of the
            path repeats smoothly.

    Returns:
        Each point once and the vectors between: M = (K - 1) * (steps - 1) + 1, or K * (steps - 1) for a
        loop.

    Raises:
        ValueError: fewer than 2 points or 2 steps, or an unknown method.
    """
    if len(points) < 2 or steps < 2:
        raise ValueError(f"a path needs at least 2 points and 2 steps, not {len(points)} and {steps}")
    function = {"linear": lerp, "spherical": slerp}.get(method)
    if function is None:
        raise ValueError(f"the method is 'linear' or 'spherical', not {method!r}")
    stops = [*points, points[0]] if loop else list(points)
    fractions = np.arange(steps - 1) / (steps - 1)
    vectors = [function(a, b, t) for a, b in pairwise(stops) for t in fractions]
    return np.stack(vectors if loop else [*vectors, stops[-1]]).astype(np.float32)


def clamp_to_prior(z: Latents) -> Latents:
    """Clamp all values to the range of the prior, [-1, 1]."""
    return np.clip(z, -1.0, 1.0)


def values_outside_prior(z: Latents) -> tuple[int, float]:
    """The number of values outside [-1, 1] and the largest distance from it (0.0 if none)."""
    excess = np.abs(z) - 1.0
    return int((excess > 0).sum()), float(max(excess.max(initial=0.0), 0.0))


def save_latents(file: str | Path, z: Latents) -> None:
    """Write vectors [N, size] to a .npy file of float32.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.asarray(z, np.float32), allow_pickle=False)


def load_latents(file: str | Path, size: int) -> Latents:
    """Read vectors for a generator that takes `size` values: float32 [N, size], N of at least 1.

    Files with pickled objects are refused, so no code in a file is run.

    Raises:
        UserError: the file is missing, not a .npy file of numbers [N, size], or contains values that are
            not finite.
    """
    try:
        # Mapping refuses a truncated file before memory for its claimed size is allocated.
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"cannot read latents from {file}: {error.strerror or error}") from error
    except (ValueError, EOFError, OverflowError, SyntaxError, BadZipFile) as error:
        raise UserError(f"{file} is not a .npy file of latent vectors, or is truncated") from error
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "fiu":
        raise UserError(f"{file} is not a .npy file of numbers; give a file that was saved with a picture")
    if stored.ndim != 2 or not len(stored):
        raise UserError(
            f"{file} contains an array {list(stored.shape)}; latent vectors are [N, {size}] with N >= 1"
        )
    if stored.shape[1] != size:
        raise UserError(f"{file} contains vectors of {stored.shape[1]} values; this generator takes {size}")
    with np.errstate(over="ignore"):
        z = np.array(stored, np.float32)
    invalid = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if len(invalid):
        raise UserError(f"{file}: vector {invalid[0]} contains a value that is not finite")
    return z


def _uniform(count: int, size: int, seed: np.random.SeedSequence) -> Latents:
    if count < 0 or size < 1:
        raise ValueError(f"cannot draw {count} vectors of {size} values")
    raw = np.random.PCG64(seed).random_raw(count * size)
    # float32 represents the top 24 bits exactly, so every value is a multiple of 2^-23.
    return ((raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - 1).reshape(count, size)


def _ends(start: Latents, end: Latents) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.asarray(start, np.float64), np.asarray(end, np.float64)


def _exact_at_ends(start: Latents, end: Latents, t: float, point: NDArray[np.float64]) -> Latents:
    exact = {0.0: start, 1.0: end}.get(float(t), point)
    return np.array(exact, np.float32)


def _perpendicular(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """A vector orthogonal to `direction`, the same for the opposite direction."""
    axis = np.zeros_like(direction)
    axis[np.argmin(np.abs(direction))] = 1.0
    return axis - (axis @ direction) * direction
