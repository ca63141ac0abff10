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
    centre_crop,
    crop_and_colour,
    shift_and_zoom,
)
from images.tiles import to_float

LEVEL = st.floats(0, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(count: int, side: int) -> torch.Tensor:
    """Images whose red tells the column and whose green tells the row."""
    places = (torch.arange(side) * 255 / (side - 1)).round().byte()
    image = torch.stack(
        [places.expand(side, side), places[:, None].expand(side, side), torch.zeros(side, side)]
    )
    return image.byte().expand(count, 3, side, side).contiguous()


def even(count: int, *colour: int) -> torch.Tensor:
    return (
        torch.tensor(colour, dtype=torch.uint8)[None, :, None, None].expand(count, 3, 112, 112).contiguous()
    )


@given(LEVEL, LEVEL, LEVEL, st.floats(0, 2), st.floats(-0.5, 0.5))
def test_colours_are_those_of_colorsys(red, green, blue, factor, turn):
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    expected = colorsys.hsv_to_rgb((hue + turn) % 1, min(1, saturation * factor), value)
    colours = torch.tensor([red, green, blue], dtype=torch.float64).view(1, 3, 1, 1)
    found = adjust_colours(colours, torch.full((1, 1, 1, 1), factor), torch.full((1, 1, 1, 1), turn))
    if min(red, green, blue) < max(red, green, blue) - 1e-6:
        assert found.flatten().tolist() == pytest.approx(expected, abs=1e-5)
    else:
        assert found.flatten().tolist() == pytest.approx([red, green, blue], abs=1e-5)


def test_no_variation_changes_nothing():
    images = ramp(3, 32)
    torch.testing.assert_close(
        augment(images, 32, Augmentation(), generator()), to_float(images), atol=1e-5, rtol=0
    )


def test_crops_are_96_to_112_pixels_of_112_and_lie_anywhere_inside():
    how = Augmentation(side=crop_and_colour(mirror=True).side, shift=None)
    found = augment(ramp(200, 112), 96, how, generator()) * 0.5 + 0.5
    left, right = (found[:, 0, 48, column] * 111 + 0.5 for column in (0, -1))
    top = found[:, 1, 0, 48] * 111 + 0.5
    # The middles of the outer pixels are a 96th of the crop's side nearer to each other than its edges.
    sides = (right - left) * 96 / 95
    assert 95.8 <= sides.min() < 97.5
    assert 111 < sides.max() <= 112.2
    assert left.min() > 0
    assert right.max() < 112
    room = 112 - sides
    # Up to the half pixel by which a pixel's middle lies inside.
    share = ((left - sides / 192) / room.clamp(min=0.1))[room > 4]
    assert share.min() < 0.1
    assert share.max() > 0.9
    assert np.corrcoef(left, top)[0, 1] ** 2 < 0.5, "across and down are drawn apart"


def test_half_of_the_images_are_mirrored():
    found = augment(ramp(400, 32), 32, Augmentation(mirror=True), generator())
    flipped = found[:, 0, 0, 0] > found[:, 0, 0, -1]
    assert 0.4 < flipped.float().mean() < 0.6
    torch.testing.assert_close(found[flipped][0].flip(-1), to_float(ramp(1, 32))[0], atol=1e-5, rtol=0)


def test_shifts_of_a_tenth_and_a_zoom_of_a_fifth():
    found = augment(ramp(300, 101), 101, shift_and_zoom(mirror=False), generator()) * 0.5 + 0.5
    middle = found[:, 0, 50, 50] - 0.5
    assert -0.102 < middle.min() < -0.09
    assert 0.09 < middle.max() < 0.102
    slope = (found[:, 0, 50, 60] - found[:, 0, 50, 40]) / 0.2
    assert 0.78 < slope.min() < 0.83
    assert 1.17 < slope.max() < 1.22


def test_brightness_by_0_4_and_saturation_by_0_4():
    grey = (
        augment(even(150, 128, 128, 128), 96, crop_and_colour(mirror=False), generator())[:, :, 5, 5] * 0.5
        + 0.5
    )
    change = grey[:, 0] - 128 / 255
    assert -0.401 < change.min() < -0.38
    assert 0.38 < change.max() < 0.401
    assert (grey - grey[:, :1]).abs().max() < 1e-6, "grey has no hue"
    how = Augmentation(saturation=(0.6, 1.4), hue=0.04)
    pink = augment(even(150, 200, 150, 150), 96, how, generator())[:, :, 5, 5] * 0.5 + 0.5
    hsv = np.array([colorsys.rgb_to_hsv(*colour) for colour in pink.tolist()])
    saturations = hsv[:, 1] / 0.25
    assert 0.59 < saturations.min() < 0.63
    assert 1.37 < saturations.max() < 1.41
    hues = (hsv[:, 0] + 0.5) % 1 - 0.5
    assert -0.041 < hues.min() < -0.037
    assert 0.037 < hues.max() < 0.041


def test_contrast_is_around_each_images_own_mean():
    image = torch.full((300, 3, 32, 32), 100, dtype=torch.uint8)
    image[..., 16:] = 150
    found = augment(image, 32, Augmentation(contrast=(0.6, 1.4)), generator()) * 127.5 + 127.5
    spread = (found[:, 0, 0, 20] - found[:, 0, 0, 10]) / 50
    assert 0.59 < spread.min() < 0.62
    assert 1.38 < spread.max() < 1.41
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.full((300,), 125.0), atol=0.3, rtol=0)


def test_the_same_seed_draws_the_same_and_values_stay_in_range():
    images = torch.randint(0, 256, (20, 3, 112, 112), generator=generator(1)).byte()
    how = crop_and_colour(mirror=True)
    found = augment(images, 96, how, generator(3))
    assert torch.equal(found, augment(images, 96, how, generator(3)))
    assert not torch.equal(found, augment(images, 96, how, generator(4)))
    assert found.shape == (20, 3, 96, 96)
    assert found.abs().max() <= 1
    # An image's variation does not depend on those beside it.
    images[1:] = 0
    torch.testing.assert_close(augment(images, 96, how, generator(3))[0], found[0])


def test_the_middle_is_cut_out():
    images = ramp(2, 112)
    assert torch.equal(centre_crop(images, 96), to_float(images[:, :, 8:104, 8:104]))
    assert torch.equal(centre_crop(images, 112), to_float(images))
