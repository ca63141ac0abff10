import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from images.tiles import BACKGROUND, GAP, centre_crop, number_tiles, scale_image, tile, to_float, to_uint8


def noise(count: int, height: int = 8, width: int | None = None) -> np.ndarray:
    shape = (count, 3, height, width or height)
    return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)


class TestConversion:
    def test_round_trip_of_all_levels(self):
        levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
        floats = to_float(levels)
        assert floats.dtype == torch.float32
        assert (floats.min(), floats.max()) == (-1.0, 1.0)
        assert torch.equal(to_uint8(floats), levels)

    def test_floats_are_rounded_and_clamped(self):
        floats = torch.tensor([-7.0, -1.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.999, 1.0, 7.0])
        assert to_uint8(floats).tolist() == [0, 0, 0, 1, 255, 255, 255]

    def test_arguments_are_not_modified(self):
        floats = torch.tensor([0.3, -0.3])
        to_uint8(floats)
        assert torch.equal(floats, torch.tensor([0.3, -0.3]))
        to_float(floats)
        assert torch.equal(floats, torch.tensor([0.3, -0.3]))

    def test_bfloat16_is_rounded_in_float32(self):
        assert to_uint8(torch.tensor([1.0, -1.0, 0.5], dtype=torch.bfloat16)).tolist() == [255, 0, 191]


class TestTile:
    @given(
        count=st.integers(1, 40),
        columns=st.integers(1, 45),
        height=st.integers(1, 5),
        width=st.integers(1, 5),
    )
    def test_positions_and_background(self, count, columns, height, width):
        images = noise(count, height, width)
        picture = tile(images, columns)
        rows = -(-count // columns)
        assert picture.shape == (3, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP)
        rest = np.ones(picture.shape[1:], bool)
        for index, image in enumerate(images):
            top, left = index // columns * (height + GAP), index % columns * (width + GAP)
            place = np.s_[top : top + height, left : left + width]
            assert np.array_equal(picture[:, place[0], place[1]], image)
            assert rest[place].all()
            rest[place] = False
        assert (picture[:, rest] == BACKGROUND).all()

    @pytest.mark.parametrize(
        ("images", "columns"),
        [
            (noise(0), 1),
            (noise(2), 0),
            (noise(2), -1),
            (noise(2).astype(np.float32), 1),
            (noise(2)[0], 1),
            (noise(2)[:, :1], 1),
        ],
    )
    def test_invalid_arguments(self, images, columns):
        with pytest.raises(ValueError, match=r"expected uint8|columns"):
            tile(images, columns)


@pytest.mark.parametrize("convert", [np.array, torch.from_numpy])
def test_centre_crop_of_arrays_and_tensors(convert):
    images = noise(2)
    assert np.array_equal(centre_crop(convert(images), 4), images[:, :, 2:6, 2:6])
    assert np.array_equal(centre_crop(convert(images[0]), 5), images[0, :, 1:6, 1:6])
    assert np.array_equal(centre_crop(convert(images), 8), images)


class TestScale:
    def test_images_are_enlarged_and_reduced(self):
        (image,) = np.kron(noise(1, 8), np.ones((4, 4), np.uint8))
        assert scale_image(image, 1) is image
        larger = scale_image(image, 4)
        assert larger.shape == (3, 128, 128)
        assert abs(scale_image(larger, 0.25).astype(int) - image).mean() < 8
        assert scale_image(image, 0.001).shape == (3, 1, 1)
        assert scale_image(image[:, :, :16], 1.5).shape == (3, 48, 24)

    def test_too_large_a_picture_is_refused(self):
        with pytest.raises(UserError, match=r"12,000 x 12,000 pixels are too many .* smaller --scale"):
            scale_image(np.zeros((3, 1000, 1000), np.uint8), 12)


class TestNumbers:
    @pytest.mark.parametrize("side", [32, 96, 256])
    def test_numbers_are_below_the_images(self, side):
        plain = noise(64, side)
        numbered = number_tiles(plain)
        assert np.array_equal(numbered[:, :, :side], plain)
        margins = numbered[:, :, side:]
        assert 11 <= margins.shape[2] <= side // 2
        assert (margins[:, :, -3:] == BACKGROUND).all()  # apart from the image below
        assert (margins.min(axis=(1, 2, 3)) < 50).all()
        assert len({margin.tobytes() for margin in margins}) == 64

    def test_a_long_number_fits_its_tile(self):
        margins = number_tiles(noise(2, 32), ["12345", "123"])[:, :, 32:]
        for margin in margins:
            assert (margin[:, :, [0, -1]] == BACKGROUND).all()

    def test_given_numbers(self):
        images = noise(3, 32)
        assert np.array_equal(number_tiles(images, [5, 0, 2])[2], number_tiles(images)[2])
        assert not np.array_equal(number_tiles(images, [5, 0, 2])[0], number_tiles(images)[0])
        with pytest.raises(ValueError, match="zip"):
            number_tiles(images, [1, 2])


def test_torch_is_not_imported():
    modules = "gan.latent.render, images.dataset, images.plots, images.sampler, images.video"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
