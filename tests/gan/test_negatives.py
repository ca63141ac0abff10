import pytest
import torch

from gan.negatives import NUMBERS_PER_IMAGE, blend, count_negatives, first_images
from tests.small_trainer import batches_of, trainer


def uniform(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, NUMBERS_PER_IMAGE, generator=torch.Generator().manual_seed(seed))


def black_and_white(count: int, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    return -torch.ones(count, 3, size, size), torch.ones(count, 3, size, size)


def test_all_of_one_image_or_all_of_the_other():
    black, white = black_and_white(2)
    ends = torch.tensor([[0.0], [1.0]]).expand(2, NUMBERS_PER_IMAGE)
    done = blend(black, white, ends)
    assert done[0].min() > 0.99
    assert done[1].max() < -0.99


@pytest.mark.parametrize("size", [32, 48, 96, 256])
def test_patches_are_of_either_image_with_soft_edges_between(size):
    black, white = black_and_white(200, size)
    done = blend(black, white, uniform(200))
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


def test_each_follows_its_own_uniform():
    images, others = (torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    done = blend(images, others, uniform(3))
    for row in range(3):
        alone = blend(images[row : row + 1], others[row : row + 1], uniform(3)[row : row + 1])
        torch.testing.assert_close(alone[0], done[row])
    assert not torch.equal(done, blend(images, others, uniform(3, seed=1)))


@pytest.mark.parametrize(
    ("share", "batch", "count"),
    [(0.25, 96, 24), (0.25, 7, 2), (0.5, 7, 3), (0.25, 2, 0), (0.0, 96, 0)],  # 4 of 7 would need 8 images
)
def test_the_number_of_negatives(share, batch, count):
    assert count_negatives(share, batch) == count


@pytest.mark.parametrize(("count", "batch"), [(24, 96), (2, 7), (3, 7), (48, 96), (1, 2), (0, 8)])
def test_no_image_is_in_two_negatives(count, batch):
    first = first_images(count, batch)
    both = torch.cat([first, first + 1])
    assert len(both.unique()) == 2 * count
    assert ((both >= 0) & (both < batch)).all()


@pytest.mark.parametrize("flip", [False, True])
def test_negatives_are_blended_from_the_batch(flip):
    made = trainer(negatives=0.25, flip=flip)
    batches = batches_of(made)
    made.step()
    made.step()
    for batch in batches:
        assert batch.negatives.shape == (2, 3, 32, 32)
        assert batch.negative_uniform.shape == (2, batch.real_uniform.shape[1])
        images, others = batch.real[[0, 4]], batch.real[[1, 5]]
        low, high = torch.minimum(images, others) - 1e-6, torch.maximum(images, others) + 1e-6
        assert ((batch.negatives >= low) & (batch.negatives <= high)).all()
        for one in (images, others):
            assert (batch.negatives - one).abs().mean() > 0.1
    assert not torch.equal(batches[0].negative_uniform, batches[1].negative_uniform)


def test_a_training_without_negatives_has_none():
    made = trainer(negatives=0.0)
    batches = batches_of(made)
    made.step()
    assert len(batches[0].negatives) == len(batches[0].negative_uniform) == 0
