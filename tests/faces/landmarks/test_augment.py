"""Crops: what is done to the pixels is done to the points."""

import numpy as np
import pytest
import torch

from faces.landmarks.augment import JITTER, Augmentation, crops, principal_colours
from faces.landmarks.crops import ENLARGE
from faces.landmarks.tiles import TILE

SIDE, SIZE = 96, 64


def spots(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Black tiles with a red spot at point 0, a green one at point 1 and a blue one at point 2."""
    places = np.random.default_rng(0).uniform(0.35, 0.65, (count, 3, 2))
    grid = (np.arange(SIDE) + 0.5) / SIDE
    x, y = np.meshgrid(grid, grid)
    tiles = np.zeros((count, 3, SIDE, SIDE))
    for tile, face in zip(tiles, places, strict=True):
        for channel, (u, v) in zip(tile, face, strict=True):
            channel[:] = 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 2 / 0.015**2)
    return torch.from_numpy(tiles.round().astype(np.uint8)), torch.from_numpy(places).float()


def found(images: torch.Tensor) -> torch.Tensor:
    """Where in each crop the spots are, by their centres of mass, [B, 3, 2] in fractions."""
    mass = (images + 1).clamp(min=0.02) - 0.02
    grid = (torch.arange(images.shape[-1]) + 0.5) / images.shape[-1]
    total = mass.sum((2, 3))
    return torch.stack([(mass * grid).sum((2, 3)) / total, (mass * grid[:, None]).sum((2, 3)) / total], -1)


FORMS = {
    "none": Augmentation(),
    "shift": Augmentation(shift=0.1),
    "scale": Augmentation(scale=0.2),
    "turn": Augmentation(turn=20),
    "mirror": Augmentation(mirror=True),
    "all": Augmentation(shift=0.05, scale=0.1, turn=15, mirror=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_points_move_with_the_pixels(form):
    tiles, points = spots(40)
    order = torch.tensor([2, 1, 0])  # red and blue are a pair
    images, placed = crops(tiles, points, SIZE, FORMS[form], torch.Generator().manual_seed(1), order)
    assert images.shape == (40, 3, SIZE, SIZE)
    assert images.min() >= -1
    assert images.max() <= 1
    there = found(images)
    swapped = (there[:, order] - placed).abs().amax((1, 2)) < (there - placed).abs().amax((1, 2))
    right = torch.where(swapped[:, None, None], there[:, order], there)
    inside = ((placed > 0.12) & (placed < 0.88)).all(2).all(1)
    assert inside.sum() > 20
    assert (right - placed)[inside].abs().max() < 0.01
    share = swapped.float().mean()
    assert 0.25 < share < 0.75 if FORMS[form].mirror else share == 0


def test_without_augmentation_the_crop_is_the_enlarged_box():
    corners = torch.tensor([[[0.5 - 0.5 / TILE, 0.5], [0.5 + 0.5 / TILE, 0.5]]])
    tiles = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    _, placed = crops(tiles, corners, SIZE, Augmentation(), torch.Generator())
    assert placed[0, :, 0].tolist() == pytest.approx([0.5 - 0.5 / ENLARGE, 0.5 + 0.5 / ENLARGE])


def test_the_spread_is_what_it_says():
    tiles, points = torch.zeros(4000, 3, 8, 8, dtype=torch.uint8), torch.full((4000, 1, 2), 0.5)
    random = torch.Generator().manual_seed(0)
    _, placed = crops(tiles, points, 8, Augmentation(shift=0.08), random)
    assert (placed * ENLARGE).std(0)[0].tolist() == pytest.approx([0.08, 0.08], rel=0.06)
    beside = points + torch.tensor([0.1, 0.0])
    _, placed = crops(tiles, beside, 8, Augmentation(scale=0.1, turn=10), random)
    arm = placed[:, 0] - 0.5
    assert arm.norm(dim=1).log().std().item() == pytest.approx(0.1, rel=0.06)
    assert torch.rad2deg(torch.atan2(arm[:, 1], arm[:, 0])).std().item() == pytest.approx(10, rel=0.06)
    assert (JITTER.shift, JITTER.scale, JITTER.turn, JITTER.mirror) == (0.08, 0.1, 0, False)


def test_the_same_seed_gives_the_same_crops():
    tiles, points = spots(4)
    colours = principal_colours(tiles)
    every = Augmentation(0.1, 0.1, 10, 0.1, True)
    one, other, third = (
        crops(tiles, points, SIZE, every, torch.Generator().manual_seed(seed), torch.arange(3), colours)
        for seed in (5, 5, 6)
    )
    assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
    assert not torch.equal(one[0], third[0])


def test_principal_colours_are_those_of_the_covariance():
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


def test_colour_adds_one_colour_to_every_pixel_with_the_spread_asked_for():
    tiles = torch.full((3000, 3, 4, 4), 128, dtype=torch.uint8)
    axes = torch.diag(torch.tensor([0.3, 0.2, 0.1]))
    random = torch.Generator().manual_seed(0)
    images, _ = crops(tiles, torch.zeros(3000, 1, 2), 4, Augmentation(colour=0.1), random, colours=axes)
    assert torch.equal(images.amax((2, 3)), images.amin((2, 3)))
    assert images[..., 0, 0].std(0).tolist() == pytest.approx([0.06, 0.04, 0.02], rel=0.06)
