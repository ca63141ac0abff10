import copy
import math

import pytest
import torch

from gan.augment import ADAPTATION_IMAGES, Augmenter, flip, translate
from tests.small_trainer import CPU, set_weight, trainer
from tests.states import assert_equal

SIZES = (32, 48, 96, 256)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def noise(count: int = 6, size: int = 32, seed: int = 9, dtype=torch.float32) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=random, dtype=dtype) * 2 - 1


def adaptive(share: float) -> Augmenter:
    augment = Augmenter("adaptive", CPU)
    augment.share.fill_(share)
    return augment


def test_half_of_the_images_are_mirrored():
    images = noise(1, 8).repeat(1000, 1, 1, 1)
    flipped = flip(images, uniform(1000))
    mirrored = torch.tensor([torch.equal(image, images[0].flip(2)) for image in flipped])
    unchanged = torch.tensor([torch.equal(image, images[0]) for image in flipped])
    assert (mirrored ^ unchanged).all()
    assert 430 < mirrored.sum() < 570  # 500 within 4.4 standard deviations


@pytest.mark.parametrize(("function", "shape"), [(translate, (8, 2)), (flip, (8,))])
def test_each_image_depends_only_on_its_own_random_numbers(function, shape):
    images, numbers = noise(8), uniform(*shape, seed=1)
    changed = function(images, numbers)
    assert changed.shape == images.shape
    assert torch.equal(images, noise(8))
    assert not torch.equal(changed, function(images, uniform(*shape, seed=2)))
    for row in range(8):
        assert torch.equal(function(images[row : row + 1], numbers[row : row + 1])[0], changed[row])


def test_gradients_pass_through_the_augmentation():
    images = noise(3, 16, dtype=torch.float64).requires_grad_()
    numbers, augment = uniform(3, 2), Augmenter("always", CPU)
    # Translation is linear, so differences equal the gradient.
    direction, weights = noise(3, 16, 1, torch.float64), noise(3, 16, 2, torch.float64)
    (gradient,) = torch.autograd.grad((augment(images, numbers) * weights).sum(), images)
    difference = (augment(direction, numbers) * weights).sum()
    assert gradient.any()
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_the_extreme_numbers_give_the_extreme_shifts(size):
    """The largest number below 1 must not shift by one more pixel, beyond the padding."""
    near, far = translate(torch.ones(2, 3, size, size), torch.tensor([[0.0, 0.0], [1 - 2**-24] * 2]))
    assert near.sum() == far.sum() == 3 * (size - size // 8) ** 2


@pytest.mark.parametrize("size", SIZES)
def test_translation_shifts_by_whole_pixels_and_fills_with_grey(size):
    reach = size // 8
    count = 40 if size > 64 else 400
    position = torch.arange(1, size + 1).float() / 1000
    # Every pixel encodes its position; none is 0.
    image = torch.stack([position[:, None].expand(size, size), position.expand(size, size)])
    found = []
    for shifted in translate(image[None].repeat(count, 1, 1, 1), uniform(count, 2)):
        inside = shifted[0] != 0
        assert not shifted[1, ~inside].any()
        shifts = [_shift(shifted[0].amax(1)), _shift(shifted[1].amax(0))]
        expected = torch.zeros_like(image)
        after, before = zip(*(_overlap(shift, size) for shift in shifts), strict=True)
        expected[:, *after] = image[:, *before]
        assert torch.equal(shifted, expected)
        found.append(shifts)
    for shifts in map(set, zip(*found, strict=True)):
        assert max(map(abs, shifts)) <= reach
        if count == 400:
            assert shifts == set(range(-reach, reach + 1))


def _shift(values: torch.Tensor) -> int:
    """By how much a line that was 0.001, 0.002, ... has moved."""
    first = int(values.nonzero()[0])
    return first + 1 - round(float(values[first]) * 1000)


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """The part that stays in the image, after and before the shift."""
    return slice(max(shift, 0), size + min(shift, 0)), slice(max(-shift, 0), size - max(shift, 0))


def test_each_mode_augments_its_share():
    images, numbers = noise(), uniform(6, 3)
    off, always, adaptive = (Augmenter(mode, CPU) for mode in ("none", "always", "adaptive"))
    assert (off.numbers_per_image, always.numbers_per_image, adaptive.numbers_per_image) == (0, 2, 3)
    assert off(images, numbers[:, :0]) is images
    assert torch.equal(always(images, numbers[:, 1:]), translate(images, numbers[:, 1:]))
    assert adaptive.share == 1
    assert torch.equal(adaptive(images, numbers), translate(images, numbers[:, 1:]))
    for augment in (off, always):
        augment.adapt(torch.tensor(0.0), ADAPTATION_IMAGES)
        assert augment.share == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_the_adaptive_share_is_augmented_and_the_rest_unchanged(share):
    images, numbers = noise(200), uniform(200, 3)
    augmented, shifted = adaptive(share)(images, numbers), translate(images, numbers[:, 1:])
    unchanged = torch.tensor([torch.equal(*pair) for pair in zip(augmented, images, strict=True)])
    changed = torch.tensor([torch.equal(*pair) for pair in zip(augmented, shifted, strict=True)])
    assert (unchanged | changed).all()
    assert abs((~unchanged).float().mean() - share) <= 4 * math.sqrt(share * (1 - share) / 200) + 0.01


@pytest.mark.parametrize(
    ("accuracy", "direction"),
    [(0.0, -1), (0.8, -1), (0.9, 1), (1.0, 1)],  # the target of 0.7 is an accuracy of 0.85
)
def test_the_share_moves_towards_the_target(accuracy, direction):
    augment = adaptive(0.5)
    augment.adapt(torch.tensor(accuracy), 96)
    assert augment.share.item() == pytest.approx(0.5 + direction * 96 / ADAPTATION_IMAGES)


@pytest.mark.parametrize(("accuracy", "end"), [(0.0, 0), (1.0, 1)])
def test_the_share_stays_between_0_and_1_and_in_its_tensor(accuracy, end):
    augment = adaptive(1 - end)
    share = augment.share
    for _ in range(10):
        augment.adapt(torch.tensor(accuracy), ADAPTATION_IMAGES // 8)
    assert share is augment.share
    assert share == end


def test_training_lowers_the_share_while_d_is_not_accurate(monkeypatch):
    monkeypatch.setattr("gan.augment.TARGET", 1 - 1e-6)
    tested = trainer()
    for _ in range(5):
        tested.step()
    statistics = tested.statistics()
    assert statistics["accuracy/real"] < 1
    assert statistics["augmentation/share"] == pytest.approx(1 - 5 * 8 / ADAPTATION_IMAGES)
    assert "augmentation/share" not in trainer(augmentation="always").statistics()


def test_the_share_follows_the_accuracy_on_real_images():
    tested = trainer()
    set_weight(tested.discriminator.head.bias, -2.0)  # D takes all images for real, at 0.6
    tested._augment.share.fill_(0.5)
    tested.step()
    assert tested.statistics()["augmentation/share"] == pytest.approx(0.5 + 8 / ADAPTATION_IMAGES)


def test_the_share_is_resumed(monkeypatch):
    monkeypatch.setattr("gan.augment.ADAPTATION_IMAGES", 80)
    straight, resumed = trainer(), trainer()
    for _ in range(4):
        straight.step()
    resumed.load_state(copy.deepcopy(straight.state()) | {"step": 4})
    for each in (straight, resumed):
        for _ in range(3):
            each.step()
    assert straight._augment.share < 1
    assert_equal(straight.state(), resumed.state())


def test_a_checkpoint_without_a_share_augments_all_images():
    tested = trainer()
    state = tested.state() | {"step": 0}
    del state["augmented_share"]  # as in early versions
    tested._augment.share.fill_(0.2)
    tested.load_state(state)
    assert tested.statistics()["augmentation/share"] == 1
