"""Augmentation applies the same transform to pixels and points."""

import numpy as np
import pytest
import torch

from faces.landmarks.augment import JITTER, Augmentation, principal_colours, random_crops
from faces.landmarks.face_crops import FACE_CROP_SCALE
from faces.landmarks.geometry import INPUT_SCALE

SIDE, SIZE = 96, 64


def spots(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Black face crops with a red spot at point 0, a green one at point 1 and a blue one at point 2."""
    places = np.random.default_rng(0).uniform(0.35, 0.65, (count, 3, 2))
    grid = (np.arange(SIDE) + 0.5) / SIDE
    x, y = np.meshgrid(grid, grid)
    face_crops = np.zeros((count, 3, SIDE, SIDE))
    for face_crop, face in zip(face_crops, places, strict=True):
        for channel, (u, v) in zip(face_crop, face, strict=True):
            channel[:] = 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 2 / 0.015**2)
    return torch.from_numpy(face_crops.round().astype(np.uint8)), torch.from_numpy(places).float()


def spot_positions(images: torch.Tensor) -> torch.Tensor:
    """Centres of mass of the spots in each image, [B, 3, 2] in fractions."""
    mass = (images + 1).clamp(min=0.02) - 0.02
    grid = (torch.arange(images.shape[-1]) + 0.5) / images.shape[-1]
    total = mass.sum((2, 3))
    return torch.stack([(mass * grid).sum((2, 3)) / total, (mass * grid[:, None]).sum((2, 3)) / total], -1)


AUGMENTATIONS = {
    "none": Augmentation(),
    "shift": Augmentation(shift=0.1),
    "scale": Augmentation(scale=0.2),
    "turn": Augmentation(turn=20),
    "mirror": Augmentation(mirror=True),
    "all": Augmentation(shift=0.05, scale=0.1, turn=15, mirror=True),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_points_move_with_the_pixels(name):
    face_crops, points = spots(40)
    order = torch.tensor([2, 1, 0])  # red and blue are a pair
    images, moved = random_crops(
        face_crops, points, SIZE, AUGMENTATIONS[name], torch.Generator().manual_seed(1), order
    )
    assert images.shape == (40, 3, SIZE, SIZE)
    assert images.min() >= -1
    assert images.max() <= 1
    positions = spot_positions(images)
    swapped = (positions[:, order] - moved).abs().amax((1, 2)) < (positions - moved).abs().amax((1, 2))
    matched = torch.where(swapped[:, None, None], positions[:, order], positions)
    inside = ((moved > 0.12) & (moved < 0.88)).all(2).all(1)
    assert inside.sum() > 20
    assert (matched - moved)[inside].abs().max() < 0.01
    share = swapped.float().mean()
    assert 0.25 < share < 0.75 if AUGMENTATIONS[name].mirror else share == 0


def test_without_augmentation_the_crop_is_the_enlarged_box():
    corners = torch.tensor([[[0.5 - 0.5 / FACE_CROP_SCALE, 0.5], [0.5 + 0.5 / FACE_CROP_SCALE, 0.5]]])
    face_crops = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    _, moved = random_crops(face_crops, corners, SIZE, Augmentation(), torch.Generator())
    assert moved[0, :, 0].tolist() == pytest.approx([0.5 - 0.5 / INPUT_SCALE, 0.5 + 0.5 / INPUT_SCALE])


def test_unmarked_points_move_to_their_pair_in_a_mirror_image():
    face_crops, points = spots(20)
    order, augmentation = torch.tensor([2, 1, 0]), AUGMENTATIONS["all"]
    _, expected = random_crops(
        face_crops, points, SIZE, augmentation, torch.Generator().manual_seed(1), order
    )
    points[:, 0] = torch.nan
    _, moved = random_crops(face_crops, points, SIZE, augmentation, torch.Generator().manual_seed(1), order)
    unmarked = moved.isnan().all(-1)
    assert (unmarked.sum(1) == 1).all()
    assert {0, 2} == {*unmarked.int().argmax(1).tolist()}
    assert torch.equal(moved[~unmarked], expected[~unmarked])


def test_standard_deviations():
    face_crops, points = torch.zeros(4000, 3, 8, 8, dtype=torch.uint8), torch.full((4000, 1, 2), 0.5)
    generator = torch.Generator().manual_seed(0)
    _, moved = random_crops(face_crops, points, 8, Augmentation(shift=0.08), generator)
    assert (moved * INPUT_SCALE).std(0)[0].tolist() == pytest.approx([0.08, 0.08], rel=0.06)
    beside = points + torch.tensor([0.1, 0.0])
    _, moved = random_crops(face_crops, beside, 8, Augmentation(scale=0.1, turn=10), generator)
    arm = moved[:, 0] - 0.5
    assert arm.norm(dim=1).log().std().item() == pytest.approx(0.1, rel=0.06)
    assert torch.rad2deg(torch.atan2(arm[:, 1], arm[:, 0])).std().item() == pytest.approx(10, rel=0.06)
    assert (JITTER.shift, JITTER.scale, JITTER.turn, JITTER.mirror) == (0.08, 0.1, 0, False)


def test_same_seed_gives_the_same_crops():
    face_crops, points = spots(4)
    colours, mirror = principal_colours(face_crops), torch.arange(3)
    augmentation = Augmentation(0.1, 0.1, 10, 0.1, True)
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 5, 6)]
    first, repeated, other = (
        random_crops(face_crops, points, SIZE, augmentation, generator, mirror, colours)
        for generator in generators
    )
    assert all(torch.equal(left, right) for left, right in zip(first, repeated, strict=True))
    assert not torch.equal(first[0], other[0])


def test_principal_colours_are_eigenvectors_of_the_covariance():
    random = np.random.default_rng(0)
    light, tint = random.normal(0, 40, (5000, 1)), random.normal(0, 10, (5000, 1))
    levels = 128 + light * [1, 1, 1] + tint * [1, -1, 0]
    image = levels.round().clip(0, 255).astype(np.uint8).T.reshape(1, 3, 50, 100)
    components = principal_colours(torch.from_numpy(image)).numpy()
    covariance = np.cov(image[0].reshape(3, -1) / 255)
    values, vectors = np.linalg.eigh(covariance)
    for row, value, vector in zip(components, values[::-1], vectors.T[::-1], strict=True):
        assert np.linalg.norm(row) == pytest.approx(value, rel=1e-3, abs=1e-6)
        assert abs(row @ vector) == pytest.approx(value, rel=1e-3, abs=1e-6)


def test_colour_shifts_all_pixels_alike():
    face_crops = torch.full((3000, 3, 4, 4), 128, dtype=torch.uint8)
    axes = torch.diag(torch.tensor([0.3, 0.2, 0.1]))
    generator = torch.Generator().manual_seed(0)
    images, _ = random_crops(
        face_crops, torch.zeros(3000, 1, 2), 4, Augmentation(colour=0.1), generator, colours=axes
    )
    assert torch.equal(images.amax((2, 3)), images.amin((2, 3)))
    assert images[..., 0, 0].std(0).tolist() == pytest.approx([0.06, 0.04, 0.02], rel=0.06)
