"""The images and the seed of each training step, computed from the run's seed and the step without state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def batch_indices(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The images of one training step, int64 [batch_size], each in [0, count).

    Every epoch is a permutation of all images, drawn from the seed and the epoch's number. Batches
    continue across the end of an epoch, so every batch is full and no image is dropped; such a batch can
    contain an image twice. As there is no state, a run that resumes at any step continues as if it had
    never stopped.

    Args:
        count: images in the dataset, at least 1.
        batch_size: images in a batch, at least 1; may exceed `count`.
        step: number of the step, from 0.
        seed: non-negative; determines the order.

    Raises:
        ValueError: an argument is out of range.
    """
    if count < 1 or batch_size < 1 or step < 0 or seed < 0:
        raise ValueError(f"no batch of {batch_size} from {count} images at step {step} with seed {seed}")
    parts = []
    position, end = step * batch_size, (step + 1) * batch_size
    while position < end:
        epoch, first = divmod(position, count)
        part = _permutation(count, seed, epoch)[first : first + end - position]
        parts.append(part)
        position += len(part)
    return np.concatenate(parts)


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's random draws, distinct for each step and run: in [0, 2**63)."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
