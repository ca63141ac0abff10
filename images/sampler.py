"""What each step of a training sees and draws: functions of the seed and the step, with no state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def batch_indices(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The images that one training step uses: int64 [batch_size], each in [0, count).

    Every epoch is a permutation of all images, drawn from the seed and the epoch's number. Batches
    run on across its end, so that none is dropped and every batch is full; a batch over an
    epoch's end can hold an image twice, once from either epoch. As nothing is remembered from step to
    step, a run that resumes at any step goes on exactly as if it had never stopped.

    Args:
        count: images in the data set, at least 1.
        batch_size: images in a batch, at least 1; may be more than `count`.
        step: number of the step, from 0.
        seed: not negative; another seed gives another order.

    Raises:
        ValueError: an argument is out of its range.
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
    """A seed for what one step draws, unlike that of any other step or run: in [0, 2**63)."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
