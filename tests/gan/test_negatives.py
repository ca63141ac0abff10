import pytest
import torch

from gan.negatives import NUMBERS_PER_IMAGE, blend, count_negatives, first_images
from tests.small_trainer import record_batches, trainer


def uniform(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, NUMBERS_PER_IMAGE, generator=torch.Generator().manual_seed(seed))


def black_and_white(count: int, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    return -torch.ones(count, 3, size, size), torch.ones(count, 3, size, size)


def test_extreme_numbers_select_one_image_everywhere():
    black, white = black_and_white(2)
    blended = blend(black, white, torch.tensor([[0.0], [1.0]]).expand(2, NUMBERS_PER_IMAGE))
    assert blended[0].min() > 0.99
    assert blended[1].max() < -0.99


@pytest.mark.parametrize("size", [32, 48, 96, 256])
def test_patches_come_from_both_images_with_soft_edges(size):
    black, white = black_and_white(200, size)
    blended = blend(black, white, uniform(200))
    assert blended.shape == black.shape
    assert -1 <= blended.min() < blended.max() <= 1
    assert abs(blended.mean()) < 0.02
    # In about half of the pixels one image dominates, and almost every blend has patches of both.
    assert 0.4 < (blended.abs() > 0.8).float().mean() < 0.7
    assert (blended.amax((1, 2, 3)) > 0.5).float().mean() > 0.95
    assert (blended.amin((1, 2, 3)) < -0.5).float().mean() > 0.95
    for axis in (2, 3):
        assert blended.diff(dim=axis).abs().amax() < 0.65 * 96 / size


def test_each_negative_depends_only_on_its_own_random_numbers():
    images, others = (torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    blended = blend(images, others, uniform(3))
    for row in range(3):
        alone = blend(images[row : row + 1], others[row : row + 1], uniform(3)[row : row + 1])
        torch.testing.assert_close(alone[0], blended[row])
    assert not torch.equal(blended, blend(images, others, uniform(3, seed=1)))


@pytest.mark.parametrize(
    ("share", "batch_size", "count"),
    [(0.25, 96, 24), (0.25, 7, 2), (0.5, 7, 3), (0.25, 2, 0), (0.0, 96, 0)],  # 4 of 7 would need 8 images
)
def test_the_number_of_negatives(share, batch_size, count):
    assert count_negatives(share, batch_size) == count


@pytest.mark.parametrize(
    ("share", "batch_size", "count"), [(0.25, 96, 24), (0.25, 12, 4), (0.5, 12, 4), (0.25, 4, 0), (0.5, 8, 4)]
)
def test_negatives_come_in_whole_packs(share, batch_size, count):
    assert count_negatives(share, batch_size, 4) == count


@pytest.mark.parametrize(("count", "batch_size"), [(24, 96), (2, 7), (3, 7), (48, 96), (1, 2), (0, 8)])
def test_no_image_is_part_of_two_negatives(count, batch_size):
    first = first_images(count, batch_size)
    positions = torch.cat([first, first + 1])
    assert len(positions.unique()) == 2 * count
    assert ((positions >= 0) & (positions < batch_size)).all()


@pytest.mark.parametrize("flip", [False, True])
def test_negatives_are_blended_from_the_batch(flip):
    tested = trainer(negatives=0.25, flip=flip)
    batches = record_batches(tested)
    for _ in range(2):
        tested.step()
    for batch in batches:
        assert batch.negatives.shape == (2, 3, 32, 32)
        assert batch.negative_uniform.shape == (2, batch.real_uniform.shape[1])
        images, others = batch.real[[0, 4]], batch.real[[1, 5]]
        low, high = torch.minimum(images, others) - 1e-6, torch.maximum(images, others) + 1e-6
        assert ((batch.negatives >= low) & (batch.negatives <= high)).all()
        for parents in (images, others):
            assert (batch.negatives - parents).abs().mean() > 0.1
    assert not torch.equal(batches[0].negative_uniform, batches[1].negative_uniform)


def test_a_run_without_negatives_has_none():
    tested = trainer(negatives=0.0)
    batches = record_batches(tested)
    tested.step()
    assert len(batches[0].negatives) == len(batches[0].negative_uniform) == 0
