"""Planted faults, and their effect on a run's discriminator."""

import pytest
import torch

from experiments.planted_faults import FAULTS, left_side, margin, spots
from gan.networks import Discriminator
from tests.in_process import refusal, succeed


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def faces(count: int = 20, size: int = 48) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=seeded()) * 2 - 1


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_changes_every_face_of_a_copy(name):
    images = faces()
    changed = FAULTS[name](images, seeded(1))
    assert changed.shape == images.shape
    assert ((changed - images).abs().mean((1, 2, 3)) > 0.005).all()
    assert torch.equal(images, faces())


def test_spots_are_soft_and_in_the_middle_part():
    masks = spots(faces(200), seeded(), 1 / 20)
    assert masks.shape == (200, 1, 48, 48)
    assert 0 <= masks.min() < masks.max() <= 0.8
    assert (masks.amax((1, 2, 3)) > 0.7).all()
    centres = masks.flatten(1).argmax(1)
    for position in (centres // 48, centres % 48):
        assert 48 * 0.2 - 1 <= position.min() < position.max() <= 48 * 0.8


def test_halves_are_from_two_faces():
    images = faces(2)
    changed = FAULTS["halves of two faces"](images, seeded())
    assert left_side(images)[0] > 0.99 > 0.01 > left_side(images)[-1]
    torch.testing.assert_close(changed[0, :, :, -1], images[0, :, :, -1], atol=0.02, rtol=0)
    torch.testing.assert_close(changed[0, :, :, 0], images[1, :, :, 0], atol=0.02, rtol=0)


def test_margin_is_the_difference_of_the_logits():
    discriminator = Discriminator((2, 2, 2, 2), 48, "none")
    with torch.no_grad():
        discriminator.head.weight.zero_()
        discriminator.head.bias.copy_(torch.tensor([1.0, 3.5]))
    assert margin(discriminator, faces(70)).tolist() == [2.5] * 70


def test_the_table_has_a_row_for_each_fault(tiny_run):
    result = succeed("experiments/planted_faults.py", tiny_run, "--checkpoint", "newest", "--count", 10)
    assert result.lines[0].startswith("step 6, ")
    assert [line.split(" | ")[0] for line in result.lines[4:]] == [f"| {name}" for name in FAULTS]
    again = succeed("experiments/planted_faults.py", tiny_run, "--checkpoint", "newest", "--count", 10)
    assert again.lines == result.lines


def test_bad_arguments_are_one_line(tiny_run, tmp_path):
    assert "--count" in refusal("experiments/planted_faults.py", tiny_run, "--count", 1)
    assert "7" in refusal("experiments/planted_faults.py", tiny_run, "--checkpoint", 7)
    assert str(tmp_path) in refusal("experiments/planted_faults.py", tmp_path)
