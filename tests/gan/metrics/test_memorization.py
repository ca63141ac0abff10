"""Proportions of copies, against values computed by hand."""

from __future__ import annotations

from statistics import mean, stdev

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.metrics import memorization as module
from gan.metrics.memorization import close_to_training, nearer_to_training, nearest_in_any_view


def points(count: int, seed: int, length: int = 4) -> torch.Tensor:
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed))


def line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float32)[:, None]


def close(images: torch.Tensor, *references: torch.Tensor, **options):
    """`close_to_training` of images with a single view."""
    return close_to_training(images[None], *references, **options)


def test_proportions_by_hand():
    # 0 equals a training image; 3.9 is nearer to 3, but not by half; 6 is as far from 5 as from 7; 9 equals a
    # held-out image.
    sets = line(0, 3.9, 6, 9), line(0, 3, 5), line(5, 7, 9)
    assert nearer_to_training(*sets).value == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert close(*sets).value == pytest.approx(1 / 4)


def test_leave_one_out_compares_each_held_out_image_with_the_others():
    # 0: training 1, held out 10. 10: training 11, held out 11.5. 11.5: training 11, held out 10.
    held_out = line(0, 10, 11.5)
    sets = held_out, line(1, 11), held_out
    assert nearer_to_training(*sets, leave_one_out=True).value == pytest.approx(1)
    assert close(*sets, leave_one_out=True).value == pytest.approx(2 / 3)


def test_without_copies_the_interval_of_nearer_contains_one_half():
    found = nearer_to_training(points(400, 0), points(900, 1), points(300, 2))
    assert found.low < 0.5 < found.high < found.low + 0.2
    held_out = points(400, 0)
    found = nearer_to_training(held_out, points(900, 1), held_out, leave_one_out=True)
    assert found.low < 0.5 < found.high


def test_copies_of_few_training_images_raise_both_proportions():
    train, held_out = points(300, 0), points(300, 1)
    copies = train[:200] + 0.01 * points(200, 2)
    assert nearer_to_training(copies, train, held_out).low > 0.9
    assert close(copies, train, held_out).low > 0.9


def test_copies_of_many_training_images_raise_only_close():
    train, held_out = points(2000, 0, 16), points(100, 1, 16)
    assert nearer_to_training(train[:300], train, held_out).value < 0.6  # few originals are in the subsets
    floor = close(held_out, train, held_out, leave_one_out=True)
    assert close(train[:300], train, held_out).low > floor.high + 0.5


def test_mirrored_copies_are_found_in_their_mirror_image():
    train, held_out = points(200, 0), points(200, 1)
    mirrored = -train
    assert close(mirrored, train, held_out).value < 0.3
    assert close_to_training(torch.stack([mirrored, -mirrored]), train, held_out).value == 1


@pytest.mark.parametrize("length", [2, 32])
def test_interval_matches_the_deviation_over_other_samples(length):
    # In 32 dimensions a few points are the nearest to most others, so their choice matters.
    found = [
        nearer_to_training(
            *(points(count, 3 * seed + kind, length) for kind, count in enumerate((100, 60, 60)))
        )
        for seed in range(16)
    ]
    deviation = stdev(part.value for part in found)
    half_width = mean((part.high - part.low) / (2 * 1.96) for part in found)
    assert 0.5 * deviation < half_width < 2.2 * deviation


def test_interval_of_a_proportion_of_0_is_that_of_wilson():
    found = close(line(*range(50)), line(100, 101), line(99, 101))
    # With z = 1.96: z^2 / (50 + z^2).
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(3.8416 / 53.8416, rel=1e-3)


def test_result_depends_only_on_the_seed():
    sets = points(50, 0), points(80, 1), points(40, 2)
    for measure in (nearer_to_training, close):
        assert measure(*sets, seed=3) == measure(*sets, seed=3) != measure(*sets, seed=4)


@settings(max_examples=20)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(2, 7), st.integers(0, 99))
def test_few_images_are_enough(images, train, held_out, seed):
    sets = points(images, seed), points(train, seed + 1), points(held_out, seed + 2)
    for measure in (nearer_to_training, close):
        for found in (measure(*sets), measure(sets[2], *sets[1:], leave_one_out=True)):
            assert 0 <= found.low <= found.value <= found.high <= 1


def test_nearest_by_hand_with_the_nearer_of_two_views():
    distances, indices = nearest_in_any_view(torch.stack([line(0, 10), line(4, 10)]), line(1, 5, 8), 2)
    assert indices.tolist() == [[0, 1], [2, 1]]
    assert distances.tolist() == [[1, 1], [2, 5]]


def test_chunks_do_not_change_results(monkeypatch):
    sets = points(50, 0), points(80, 1), points(40, 2)

    def measure():
        return (
            nearer_to_training(*sets),
            nearer_to_training(sets[2], *sets[1:], leave_one_out=True),
            close(sets[2], *sets[1:], leave_one_out=True),
        )

    whole = measure()
    monkeypatch.setattr(module, "CHUNK_VALUES", 7 * 80)
    assert measure() == whole


def test_small_distances_survive_far_from_the_origin():
    train, held_out = points(100, 0) + 1000, points(100, 1) + 1000
    assert close(train, train, held_out).value == 1
