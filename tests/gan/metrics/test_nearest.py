"""The training images nearest to a generated one."""

from __future__ import annotations

import numpy as np
import pytest

from gan.metrics.nearest import TrainingImages


def test_a_copy_is_nearest_to_its_original_even_shifted_and_mirrored():
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8).repeat(4, 2).repeat(4, 3)
    training = TrainingImages.of(images)
    copy = np.roll(images[17], 1, axis=2)[..., ::-1]
    found, distances = training.nearest(copy, 3)
    assert np.array_equal(found[0], images[17])
    assert distances[0] < 0.5 < distances[1]
    assert distances[1:] == pytest.approx([1, 1], abs=0.4)


def test_only_training_images_are_searched_and_mapped_ones_are_not_copied(tmp_path, monkeypatch):
    monkeypatch.setattr("gan.metrics.nearest.PART", 7)
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8).repeat(4, 2).repeat(4, 3)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    training = TrainingImages.of(mapped, np.arange(29, 9, -1))
    assert training.images is mapped
    found, distances = training.nearest(images[17], 3)
    assert np.array_equal(found[0], images[17])
    assert distances[0] < 0.1
    found, distances = training.nearest(images[3], 20)
    assert len(found) == 16  # at most
    assert distances[0] > 0.5


@pytest.mark.parametrize(("different", "found"), [(30, 16), (1, 1)])
def test_images_that_come_twice_are_found_once_at_the_same_distance(different, found):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8).repeat(4, 2).repeat(4, 3)
    images = images[:different]
    twice = TrainingImages.of(np.concatenate([images, images]))
    faces, distances = twice.nearest(images[0], 20)
    assert len(np.unique(faces, axis=0)) == len(faces) == found
    assert np.isfinite(distances).all()
    assert twice.typical == TrainingImages.of(images).typical
