import pytest
import torch

from gan.negatives import AMOUNTS, PATCHES, blend, count_negatives
from tests.small_trainer import trainer


def amounts(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, AMOUNTS, generator=torch.Generator().manual_seed(seed))


def black_and_white(count: int, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    return -torch.ones(count, 3, size, size), torch.ones(count, 3, size, size)


def test_all_of_one_image_or_all_of_the_other():
    black, white = black_and_white(2)
    ends = torch.tensor([[0.0], [1.0]]).expand(2, AMOUNTS)
    done = blend(black, white, ends)
    assert done[0].min() > 0.99
    assert done[1].max() < -0.99


@pytest.mark.parametrize("size", [32, 48, 96, 256])
def test_patches_are_of_either_image_with_soft_edges_between(size):
    black, white = black_and_white(200, size)
    done = blend(black, white, amounts(200))
    assert done.shape == black.shape
    assert -1 <= done.min() < done.max() <= 1
    assert abs(done.mean()) < 0.02  # as much of the one as of the other
    # About half is all but one image's, and next to none of them is of one image as a whole.
    clear = (done.abs() > 0.8).float().mean((1, 2, 3))
    assert 0.4 < clear.mean() < 0.7
    assert (done.amax((1, 2, 3)) > 0.5).float().mean() > 0.95
    assert (done.amin((1, 2, 3)) < -0.5).float().mean() > 0.95
    # From one pixel to the next it is smooth: an edge takes a good part of a patch.
    steps = (done[:, :, 1:] - done[:, :, :-1]).abs().amax()
    assert steps < 12 * PATCHES / size


def test_each_follows_its_own_amounts():
    images, others = (torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    done = blend(images, others, amounts(3))
    for row in range(3):
        alone = blend(images[row : row + 1], others[row : row + 1], amounts(3)[row : row + 1])
        torch.testing.assert_close(alone[0], done[row])
    assert not torch.equal(done, blend(images, others, amounts(3, seed=1)))


@pytest.mark.parametrize(
    ("share", "batch", "accumulate", "processes", "count"),
    [
        (0.25, 96, 1, 1, 24),
        (0.25, 96, 4, 6, 24),
        (0.25, 96, 5, 5, 0),  # one of the 25 parts would be without
        (0.5, 7, 1, 1, 3),  # 4 would need 8 images
        (0.25, 2, 1, 1, 0),
        (0.0, 96, 1, 1, 0),
    ],
)
def test_so_many(share, batch, accumulate, processes, count):
    settings = trainer(negatives=share, batch_size=batch, accumulate=accumulate).settings
    assert count_negatives(settings, processes) == count


@pytest.mark.parametrize("flip", [False, True])
def test_negatives_are_blended_of_the_batch(flip):
    tried = trainer(negatives=0.25, flip=flip)
    seen, make = [], tried._updates.make
    tried._updates.make = lambda batch: seen.append(batch) or make(batch)
    tried.step()
    tried.step()
    for batch in seen:
        assert batch.negatives.shape == (2, 3, 32, 32)
        assert batch.negative_amounts.shape == (2, batch.real_amounts.shape[1])
        some, others = batch.real[:2], batch.real[2:4]
        low, high = torch.minimum(some, others) - 1e-6, torch.maximum(some, others) + 1e-6
        assert ((batch.negatives >= low) & (batch.negatives <= high)).all()
        for image in (some, others):
            assert (batch.negatives - image).abs().mean() > 0.1
    assert not torch.equal(seen[0].negative_amounts, seen[1].negative_amounts)
