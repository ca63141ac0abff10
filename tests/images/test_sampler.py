import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.sampler import batch_indices

counts = st.integers(1, 60)
sizes = st.integers(1, 80)
steps = st.integers(0, 200)
seeds = st.integers(0, 2**32)


@settings(deadline=None)
@given(counts, sizes, seeds, st.integers(1, 4))
def test_epoch_is_a_permutation(count, batch_size, seed, epochs):
    needed = -(-count * epochs // batch_size)
    order = np.concatenate([batch_indices(count, batch_size, step, seed) for step in range(needed)])
    for epoch in range(epochs):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(deadline=None)
@given(counts, sizes, steps, seeds)
def test_batch_is_full_and_in_range(count, batch_size, step, seed):
    batch = batch_indices(count, batch_size, step, seed)
    assert batch.shape == (batch_size,)
    assert batch.dtype == np.int64
    assert batch.min() >= 0
    assert batch.max() < count


@settings(deadline=None)
@given(counts, sizes, st.integers(0, 20), seeds)
def test_steps_are_stateless(count, batch_size, step, seed):
    in_order = [batch_indices(count, batch_size, earlier, seed) for earlier in range(step + 1)][-1]
    batch_indices(count, batch_size, step + 500, seed + 1)
    assert np.array_equal(batch_indices(count, batch_size, step, seed), in_order)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 30), seeds)
def test_order_does_not_depend_on_the_batch_size(count, batch_size, step, seed):
    one_by_one = [
        batch_indices(count, 1, position, seed)[0]
        for position in range(step * batch_size, (step + 1) * batch_size)
    ]
    assert list(batch_indices(count, batch_size, step, seed)) == one_by_one


@settings(deadline=None)
@given(seeds, seeds)
def test_order_depends_on_the_seed(seed, other_seed):
    same = np.array_equal(batch_indices(100, 100, 0, seed), batch_indices(100, 100, 0, other_seed))
    assert same == (seed == other_seed)


def test_order_depends_on_the_epoch():
    assert not np.array_equal(batch_indices(100, 100, 0, 0), batch_indices(100, 100, 1, 0))


def test_modifying_a_batch_has_no_side_effect():
    batch_indices(10, 5, 0, 0)[:] = 99
    assert batch_indices(10, 10, 0, 0).max() == 9


def test_step_is_fast_for_millions_of_images():
    batch_indices(3_000_000, 128, 0, 0)
    start = time.process_time()
    for step in range(1, 1000):
        batch_indices(3_000_000, 128, step, 0)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("arguments", [(0, 8, 0, 0), (8, 0, 0, 0), (8, 8, -1, 0), (8, 8, 0, -1)])
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match="no batch of"):
        batch_indices(*arguments)
