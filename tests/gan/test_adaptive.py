import copy
import math

import pytest
import torch

from gan.adaptive import IMAGES_TO_ALL, AdaptiveAugmentation
from gan.augment import POLICIES, amounts_needed, augment
from tests.small_trainer import CPU, trainer, weights

EVERYTHING = tuple(POLICIES)


def adaptive(share: float, policy: tuple[str, ...] = EVERYTHING, target: float = 0.6) -> AdaptiveAugmentation:
    made = AdaptiveAugmentation(policy, target, CPU)
    made.share.fill_(share)
    return made


def images_and_amounts(count: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, 32, 32, generator=random) * 2 - 1, torch.rand(count, width, generator=random)


def test_it_begins_with_all_images():
    made = AdaptiveAugmentation(EVERYTHING, 0.6, CPU)
    images, amounts = images_and_amounts(20, made.amounts)
    assert made.share == 1
    assert torch.equal(made.apply(images, amounts), augment(images, EVERYTHING, amounts[:, 1:]))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_that_share_is_augmented_and_the_others_stay_as_they_are(share):
    made = adaptive(share)
    images, amounts = images_and_amounts(200, made.amounts)
    done, all_done = made.apply(images, amounts), augment(images, EVERYTHING, amounts[:, 1:])
    kept = torch.tensor([torch.equal(*pair) for pair in zip(done, images, strict=True)])
    changed = torch.tensor([torch.equal(*pair) for pair in zip(done, all_done, strict=True)])
    assert (kept ^ changed).all()
    assert abs(changed.float().mean() - share) <= 4 * math.sqrt(share * (1 - share) / 200)


def test_gradients_reach_every_image():
    made = adaptive(0.5, ("colour",))
    images, amounts = images_and_amounts(20, made.amounts)
    made.apply(images.requires_grad_(), amounts).sum().backward()
    assert images.grad.flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("right", "direction"),
    # A target of 0.6 is met where 80 of 100 answers are right.
    [(0.0, -1), (0.75, -1), (0.85, 1), (1.0, 1)],
)
def test_the_share_goes_towards_the_target(right, direction):
    made = adaptive(0.5)
    made.update(torch.tensor(right), 96)
    assert made.share.item() == pytest.approx(0.5 + direction * 96 / IMAGES_TO_ALL)


def test_the_share_stays_where_the_target_is_met():
    made = adaptive(0.5, target=0.5)
    made.update(torch.tensor(0.75), 96)
    assert made.share == 0.5


@pytest.mark.parametrize(("right", "end"), [(0.0, 0), (1.0, 1)])
def test_the_share_goes_from_none_to_all_and_back_and_no_further(right, end):
    made = adaptive(1 - end)
    kept = made.share
    for _ in range(10):
        made.update(torch.tensor(right), IMAGES_TO_ALL // 8)
    assert kept is made.share
    assert kept == end


@pytest.mark.parametrize(("policy", "target"), [(EVERYTHING, 0.0), ((), 0.6), ((), 0.0)])
def test_without_a_target_or_a_policy_nothing_adapts(policy, target):
    made = AdaptiveAugmentation(policy, target, CPU)
    made.update(torch.tensor(0.0), IMAGES_TO_ALL)
    assert not made.adaptive
    assert made.share == 1
    assert made.amounts == amounts_needed(policy)
    images, amounts = images_and_amounts(5, made.amounts)
    assert torch.equal(made.apply(images, amounts), augment(images, policy, amounts))


UNREACHABLE = 1 - 1e-6


def test_steps_lower_the_share_while_the_discriminator_is_not_sure_enough():
    made = trainer(augmentation_target=UNREACHABLE)
    for _ in range(5):
        made.step()
    told = made.statistics()
    assert told["accuracy/real"] < 1
    assert told["augmentation/share"] == pytest.approx(1 - 5 * 8 / IMAGES_TO_ALL)
    assert "augmentation/share" not in trainer(augmentation_target=0.0).statistics()


def test_the_share_is_resumed(monkeypatch):
    monkeypatch.setattr("gan.adaptive.IMAGES_TO_ALL", 80)
    straight = trainer(augmentation_target=UNREACHABLE)
    for _ in range(4):
        straight.step()
    resumed = trainer(augmentation_target=UNREACHABLE)
    resumed.load_state(copy.deepcopy(straight.state()) | {"step": 4})
    for made in (straight, resumed):
        for _ in range(3):
            made.step()
    assert straight.statistics() == resumed.statistics()
    assert all(torch.equal(*pair) for pair in zip(weights(straight), weights(resumed), strict=True))


def test_a_checkpoint_from_before_the_share_adapted_has_all_images_augmented():
    made = trainer(augmentation_target=0.6)
    state = made.state() | {"step": 0}
    del state["augmented_share"]
    made._augmentation.share.fill_(0.2)
    made.load_state(state)
    assert made.statistics()["augmentation/share"] == 1
