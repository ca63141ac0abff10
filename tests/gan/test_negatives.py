from dataclasses import replace

import pytest
import torch

from gan.config import Settings
from gan.negatives import AMOUNTS, blend, count_negatives
from images.sampler import step_seed
from tests.small_trainer import batches_of, trainer


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
    # From one pixel to the next it is smooth: no edge is as hard as a cut.
    for axis in (2, 3):
        assert done.diff(dim=axis).abs().amax() < 0.65 * 96 / size


def test_each_follows_its_own_amounts():
    images, others = (torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    done = blend(images, others, amounts(3))
    for row in range(3):
        alone = blend(images[row : row + 1], others[row : row + 1], amounts(3)[row : row + 1])
        torch.testing.assert_close(alone[0], done[row])
    assert not torch.equal(done, blend(images, others, amounts(3, seed=1)))


@pytest.mark.parametrize(
    ("share", "batch", "count"),
    [(0.25, 96, 24), (0.25, 7, 2), (0.5, 7, 3), (0.25, 2, 0), (0.0, 96, 0)],  # 4 of 7 would need 8 images
)
def test_so_many(share, batch, count):
    assert count_negatives(replace(Settings(), negatives=share, batch_size=batch)) == count


@pytest.mark.parametrize("flip", [False, True])
def test_negatives_are_blended_of_the_batch(flip):
    tried = trainer(negatives=0.25, flip=flip)
    seen = batches_of(tried)
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


def test_a_run_without_them_draws_what_those_did_that_knew_none():
    """The latent vectors are columns 1 to 100 of what a step has always drawn."""
    tried = trainer(negatives=0.0)
    batches = batches_of(tried)
    tried.step()
    amounts_each = tried._augmentation.amounts
    random = torch.Generator().manual_seed(step_seed(0, 0))
    drawn = torch.rand(8, 1 + 100 + 3 * amounts_each, generator=random)
    assert torch.equal(batches[0].z, drawn[:, 1:101] * 2 - 1)
    assert torch.equal(batches[0].second_amounts, drawn[:, -amounts_each:])
    assert len(batches[0].negatives) == len(batches[0].negative_amounts) == 0
