import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faces.recognition.augment import (
    Augmentation,
    adjust_colours,
    augment,
    central_input,
    crop_and_colour,
    shift_and_zoom,
)
from images.tiles import to_float

LEVEL = st.floats(0, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(count: int, side: int) -> torch.Tensor:
    """Images whose red channel is the column and whose green channel is the row."""
    positions = (torch.arange(side) * 255 / (side - 1)).round().byte()
    image = torch.stack(
        [positions.expand(side, side), positions[:, None].expand(side, side), torch.zeros(side, side)]
    )
    return image.byte().expand(count, 3, side, side).contiguous()


def uniform(count: int, *colour: int) -> torch.Tensor:
    return (
        torch.tensor(colour, dtype=torch.uint8)[None, :, None, None].expand(count, 3, 112, 112).contiguous()
    )


@given(LEVEL, LEVEL, LEVEL, st.floats(0, 2), st.floats(-0.5, 0.5))
def test_colours_match_colorsys(red, green, blue, factor, turn):
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    expected = colorsys.hsv_to_rgb((hue + turn) % 1, min(1, saturation * factor), value)
    colours = torch.tensor([red, green, blue], dtype=torch.float64).view(1, 3, 1, 1)
    augmented = adjust_colours(colours, torch.full((1, 1, 1, 1), factor), torch.full((1, 1, 1, 1), turn))
    if min(red, green, blue) < max(red, green, blue) - 1e-6:
        assert augmented.flatten().tolist() == pytest.approx(expected, abs=1e-5)
    else:
        assert augmented.flatten().tolist() == pytest.approx([red, green, blue], abs=1e-5)


def test_default_ranges_change_nothing():
    images = ramp(3, 32)
    torch.testing.assert_close(
        augment(images, 32, Augmentation(), generator()), to_float(images), atol=1e-5, rtol=0
    )


def test_random_crops_are_96_to_112_of_112_pixels():
    augmentation = Augmentation(crop_side=crop_and_colour(mirror=True).crop_side, shift=None)
    augmented = augment(ramp(200, 112), 96, augmentation, generator()) * 0.5 + 0.5
    left, right = (augmented[:, 0, 48, column] * 111 + 0.5 for column in (0, -1))
    top = augmented[:, 1, 0, 48] * 111 + 0.5
    # The centres of the outer pixels are closer than the crop's edges by a 96th of its side.
    sides = (right - left) * 96 / 95
    assert 95.8 <= sides.min() < 97.5
    assert 111 < sides.max() <= 112.2
    assert left.min() > 0
    assert right.max() < 112
    slack = 112 - sides
    share = ((left - sides / 192) / slack.clamp(min=0.1))[slack > 4]
    assert share.min() < 0.1
    assert share.max() > 0.9
    assert np.corrcoef(left, top)[0, 1] ** 2 < 0.5, "x and y are independent"


def test_half_of_the_images_are_mirrored():
    augmented = augment(ramp(400, 32), 32, Augmentation(mirror=True), generator())
    flipped = augmented[:, 0, 0, 0] > augmented[:, 0, 0, -1]
    assert 0.4 < flipped.float().mean() < 0.6
    torch.testing.assert_close(augmented[flipped][0].flip(-1), to_float(ramp(1, 32))[0], atol=1e-5, rtol=0)


def test_shift_and_zoom_ranges():
    augmented = augment(ramp(300, 101), 101, shift_and_zoom(mirror=False), generator()) * 0.5 + 0.5
    middle = augmented[:, 0, 50, 50] - 0.5
    assert -0.102 < middle.min() < -0.09
    assert 0.09 < middle.max() < 0.102
    slope = (augmented[:, 0, 50, 60] - augmented[:, 0, 50, 40]) / 0.2
    assert 0.78 < slope.min() < 0.83
    assert 1.17 < slope.max() < 1.22


def test_brightness_saturation_and_hue_ranges():
    grey = (
        augment(uniform(150, 128, 128, 128), 96, crop_and_colour(mirror=False), generator())[:, :, 5, 5] * 0.5
        + 0.5
    )
    change = grey[:, 0] - 128 / 255
    assert -0.401 < change.min() < -0.38
    assert 0.38 < change.max() < 0.401
    assert (grey - grey[:, :1]).abs().max() < 1e-6, "grey has no hue"
    augmentation = Augmentation(saturation=(0.6, 1.4), hue=0.04)
    pink = augment(uniform(150, 200, 150, 150), 96, augmentation, generator())[:, :, 5, 5] * 0.5 + 0.5
    hsv = np.array([colorsys.rgb_to_hsv(*colour) for colour in pink.tolist()])
    saturations = hsv[:, 1] / 0.25
    assert 0.59 < saturations.min() < 0.63
    assert 1.37 < saturations.max() < 1.41
    hues = (hsv[:, 0] + 0.5) % 1 - 0.5
    assert -0.041 < hues.min() < -0.037
    assert 0.037 < hues.max() < 0.041


def test_contrast_is_around_the_image_mean():
    image = torch.full((300, 3, 32, 32), 100, dtype=torch.uint8)
    image[..., 16:] = 150
    augmented = augment(image, 32, Augmentation(contrast=(0.6, 1.4)), generator()) * 127.5 + 127.5
    spread = (augmented[:, 0, 0, 20] - augmented[:, 0, 0, 10]) / 50
    assert 0.59 < spread.min() < 0.62
    assert 1.38 < spread.max() < 1.41
    torch.testing.assert_close(augmented.mean((1, 2, 3)), torch.full((300,), 125.0), atol=0.3, rtol=0)


def test_same_seed_gives_same_values_in_range():
    images = torch.randint(0, 256, (20, 3, 112, 112), generator=generator(1)).byte()
    augmentation = crop_and_colour(mirror=True)
    augmented = augment(images, 96, augmentation, generator(3))
    assert torch.equal(augmented, augment(images, 96, augmentation, generator(3)))
    assert not torch.equal(augmented, augment(images, 96, augmentation, generator(4)))
    assert augmented.shape == (20, 3, 96, 96)
    assert augmented.abs().max() <= 1
    # The result does not depend on the rest of the batch.
    images[1:] = 0
    torch.testing.assert_close(augment(images, 96, augmentation, generator(3))[0], augmented[0])


def test_central_input():
    images = ramp(2, 112)
    assert torch.equal(central_input(images, 96), to_float(images[:, :, 8:104, 8:104]))
    assert torch.equal(central_input(images, 112), to_float(images))
