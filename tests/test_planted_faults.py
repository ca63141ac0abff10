"""The benchmark that shows a run's discriminator real faces with planted faults."""

import pytest
import torch

from benchmarks.planted_faults import FAULTS, lead, left_side, spots
from gan.networks import Discriminator
from tests.in_process import refusal, succeed


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def faces(count: int = 20, size: int = 48) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=seeded()) * 2 - 1


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_changes_every_face_and_leaves_the_given_ones_alone(name):
    images = faces()
    done = FAULTS[name](images, seeded(1))
    assert done.shape == images.shape
    assert ((done - images).abs().mean((1, 2, 3)) > 0.005).all()
    assert torch.equal(images, faces())


def test_spots_lie_in_the_middle_part_and_end_softly():
    made = spots(faces(200), seeded(), 1 / 20)
    assert made.shape == (200, 1, 48, 48)
    assert 0 <= made.min() < made.max() <= 0.8
    assert (made.amax((1, 2, 3)) > 0.7).all()
    centres = made.flatten(1).argmax(1)
    for place in (centres // 48, centres % 48):
        assert 48 * 0.2 - 1 <= place.min() < place.max() <= 48 * 0.8


def test_halves_are_of_the_face_and_of_another():
    images = faces(2)
    done = FAULTS["halves of two faces"](images, seeded())
    assert left_side(images)[0] > 0.99 > 0.01 > left_side(images)[-1]
    torch.testing.assert_close(done[0, :, :, -1], images[0, :, :, -1], atol=0.02, rtol=0)
    torch.testing.assert_close(done[0, :, :, 0], images[1, :, :, 0], atol=0.02, rtol=0)


def test_a_lead_is_that_of_the_logit_for_real_ones():
    judge = Discriminator((2, 2, 2, 2), 48, "none")
    with torch.no_grad():
        judge.head.weight.zero_()
        judge.head.bias.copy_(torch.tensor([1.0, 3.5]))
    assert lead(judge, faces(70)).tolist() == [2.5] * 70


def test_it_tells_of_each_fault_for_a_run(tiny_run):
    told = succeed("benchmarks/planted_faults.py", tiny_run, "--checkpoint", "newest", "--count", 10)
    assert told.lines[0].startswith("step 6, ")
    assert [line.split(" | ")[0] for line in told.lines[4:]] == [f"| {name}" for name in FAULTS]
    again = succeed("benchmarks/planted_faults.py", tiny_run, "--checkpoint", "newest", "--count", 10)
    assert again.lines == told.lines


def test_mistakes_are_one_line(tiny_run, tmp_path):
    assert "--count" in refusal("benchmarks/planted_faults.py", tiny_run, "--count", 1)
    assert "7" in refusal("benchmarks/planted_faults.py", tiny_run, "--checkpoint", 7)
    assert str(tmp_path) in refusal("benchmarks/planted_faults.py", tmp_path)
