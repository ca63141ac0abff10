"""Copies are found, and what only looks alike is not taken for one."""

from __future__ import annotations

from statistics import mean, stdev

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.metrics import memorization as module
from gan.metrics.memorization import copying, copying_of_held_out, nearest


def points(count: int, seed: int, length: int = 4) -> torch.Tensor:
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed))


def line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float32)[:, None]


def test_shares_by_hand():
    # 0 stands on a training face; 3.9 is nearer to 3 but not by half; 6 is as far from 5 as from 7; 9 copies
    # what is held out.
    found = copying(line(0, 3.9, 6, 9), train=line(0, 3, 5), held_out=line(5, 7, 9))
    assert found.references == 3
    assert found.nearer.value == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert found.close.value == pytest.approx(1 / 4)


def test_each_held_out_face_is_compared_with_the_others_of_them():
    # 0: training 1, held out 10. 10: training 11, held out 11.5. 11.5: training 11, held out 10.
    found = copying_of_held_out(line(0, 10, 11.5), train=line(1, 11), held_out=line(0, 10, 11.5))
    assert found.references == 2
    assert found.nearer.value == pytest.approx(1)
    assert found.close.value == pytest.approx(2 / 3)


def test_a_generator_that_copies_nothing_gives_one_half_within_the_interval():
    found = copying(points(400, 0), points(900, 1), points(300, 2))
    assert found.nearer.low < 0.5 < found.nearer.high
    assert found.nearer.high - found.nearer.low < 0.2


def test_real_faces_give_one_half_too():
    found = copying_of_held_out(points(400, 0), points(900, 1), points(400, 0))
    assert found.nearer.low < 0.5 < found.nearer.high


def test_copies_of_few_training_faces_are_seen_by_both_shares():
    train, held_out = points(300, 0), points(300, 1)
    found = copying(train[:200] + 0.01 * points(200, 2), train, held_out)
    assert found.nearer.low > 0.9
    assert found.close.low > 0.9


def test_copies_of_many_training_faces_are_seen_by_the_second_share():
    train, held_out = points(2000, 0, 16), points(100, 1, 16)
    found = copying(train[:300], train, held_out)
    real = copying_of_held_out(held_out, train, held_out)
    assert found.nearer.value < 0.6  # most copies are of faces that no draw holds
    assert found.close.low > real.close.high + 0.5


def test_mirrored_copies_are_found_by_their_mirror_image():
    train, held_out = points(200, 0), points(200, 1)
    mirrored = -train
    assert copying(mirrored, train, held_out).close.value < 0.3
    assert copying(torch.stack([mirrored, -mirrored]), train, held_out).close.value == 1


@pytest.mark.parametrize("length", [2, 32])
def test_the_interval_is_as_wide_as_other_draws_differ(length):
    # In 32 dimensions few points are the nearest to most others, so that it matters which were drawn.
    found = [
        copying(*(points(count, 3 * seed + kind, length) for kind, count in enumerate((100, 60, 60)))).nearer
        for seed in range(16)
    ]
    deviation = stdev(share.value for share in found)
    told = mean((share.high - share.low) / (2 * 1.96) for share in found)
    assert 0.5 * deviation < told < 2.2 * deviation


def test_where_no_face_is_close_the_interval_is_that_of_wilson():
    found = copying(line(*range(50)), train=line(100, 101), held_out=line(99, 101))
    # With z = 1.96: z^2 / (50 + z^2).
    assert (found.close.value, found.close.low) == (0, 0)
    assert found.close.high == pytest.approx(3.8416 / 53.8416, rel=1e-3)


def test_equal_seeds_give_equal_shares():
    sets = points(50, 0), points(80, 1), points(40, 2)
    assert copying(*sets, seed=3) == copying(*sets, seed=3)
    assert copying(*sets, seed=3) != copying(*sets, seed=4)


@settings(max_examples=20)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(2, 7), st.integers(0, 99))
def test_few_faces_of_either_kind_will_do(faces, train, held_out, seed):
    sets = points(faces, seed), points(train, seed + 1), points(held_out, seed + 2)
    own = copying_of_held_out(sets[2], *sets[1:])
    assert own.references == min(train, held_out - 1)
    for found in (copying(*sets), own):
        for share in (found.nearer, found.close):
            assert 0 <= share.low <= share.value <= share.high <= 1


def test_nearest_by_hand_with_the_nearer_of_two_views():
    distances, numbers = nearest(torch.stack([line(0, 10), line(4, 10)]), line(1, 5, 8), 2)
    assert numbers.tolist() == [[0, 1], [2, 1]]
    assert distances.tolist() == [[1, 1], [2, 5]]


def test_chunks_change_nothing(monkeypatch):
    sets = points(50, 0), points(80, 1), points(40, 2)
    whole = copying(*sets), copying_of_held_out(sets[2], *sets[1:]), nearest(*sets[:2], 5)[1]
    monkeypatch.setattr(module, "CHUNK_VALUES", 7 * 80)
    parts = copying(*sets), copying_of_held_out(sets[2], *sets[1:]), nearest(*sets[:2], 5)[1]
    assert parts[:2] == whole[:2]
    assert torch.equal(parts[2], whole[2])


def test_small_distances_survive_far_from_the_origin():
    train, held_out = points(100, 0) + 1000, points(100, 1) + 1000
    assert copying(train, train, held_out).close.value == 1
