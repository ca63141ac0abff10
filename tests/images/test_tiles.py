import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.png import from_pillow, load_png, read_text, save_png, to_pillow
from images.tiles import BACKGROUND, GAP, center_crop, number_tiles, tile, to_float, to_uint8


def noise(count: int, height: int = 8, width: int | None = None) -> np.ndarray:
    shape = (count, 3, height, width or height)
    return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)


class TestConversion:
    def test_every_level_comes_back(self):
        levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
        floats = to_float(levels)
        assert floats.dtype == torch.float32
        assert (floats.min(), floats.max()) == (-1.0, 1.0)
        assert torch.equal(to_uint8(floats), levels)

    def test_floats_go_to_the_nearest_level_and_stop_at_the_ends(self):
        floats = torch.tensor([-7.0, -1.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.999, 1.0, 7.0])
        assert to_uint8(floats).tolist() == [0, 0, 0, 1, 255, 255, 255]

    def test_the_argument_stays_as_it_was(self):
        floats = torch.tensor([0.3, -0.3])
        to_uint8(floats)
        assert torch.equal(floats, torch.tensor([0.3, -0.3]))
        to_float(floats)
        assert torch.equal(floats, torch.tensor([0.3, -0.3]))

    def test_half_precision_is_rounded_in_full_precision(self):
        assert to_uint8(torch.tensor([1.0, -1.0, 0.5], dtype=torch.bfloat16)).tolist() == [255, 0, 191]

    def test_pillow_and_back(self):
        image = noise(1, 5, 7)[0]
        assert to_pillow(image).size == (7, 5)
        assert np.array_equal(from_pillow(to_pillow(image)), image)


class TestTile:
    @given(
        count=st.integers(1, 40),
        columns=st.integers(1, 45),
        height=st.integers(1, 5),
        width=st.integers(1, 5),
    )
    def test_each_image_is_at_its_place_and_the_rest_is_background(self, count, columns, height, width):
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
    def test_anything_else_is_refused(self, images, columns):
        with pytest.raises(ValueError, match=r"expected uint8|columns"):
            tile(images, columns)


@pytest.mark.parametrize("kind", [np.array, torch.from_numpy])
def test_the_middle_of_arrays_and_tensors(kind):
    images = noise(2)
    assert np.array_equal(center_crop(kind(images), 4), images[:, :, 2:6, 2:6])
    assert np.array_equal(center_crop(kind(images[0]), 5), images[0, :, 1:6, 1:6])
    assert np.array_equal(center_crop(kind(images), 8), images)


class TestNumbers:
    @pytest.mark.parametrize("side", [32, 96, 256])
    def test_each_number_is_visible_on_any_background_and_leaves_most_of_the_tile(self, side):
        for level in (0, 128, 255):
            plain = np.full((64, 3, side, side), level, np.uint8)
            numbered = number_tiles(plain)
            assert (plain == level).all()
            for image in numbered:
                # White letters with a black edge: both are there, whatever is behind.
                assert image.max() > 220
                assert image.min() < 20
                assert 0.002 < (image != level).any(axis=0).mean() < 0.2
            assert len({image.tobytes() for image in numbered}) == 64

    def test_the_numbers_given_are_drawn(self):
        images = noise(3, 32)
        assert np.array_equal(number_tiles(images, [5, 0, 2])[2], number_tiles(images)[2])
        assert not np.array_equal(number_tiles(images, [5, 0, 2])[0], number_tiles(images)[0])
        with pytest.raises(ValueError, match="zip"):
            number_tiles(images, [1, 2])


class TestPng:
    def test_picture_and_text_come_back(self, tmp_path):
        image = noise(1, 9, 13)[0]
        file = tmp_path / "new folder" / "лицо.png"
        save_png(file, image, {"step": 1200, "run": "0007-顔-é", "seed": 0})
        assert np.array_equal(load_png(file), image)
        assert read_text(file) == {"run": "0007-顔-é", "seed": "0", "step": "1200"}
        assert list(read_text(file)) == ["run", "seed", "step"]
        with Image.open(file) as stored:
            assert stored.format == "PNG"

    def test_text_that_utf8_cannot_hold_is_written_as_an_escape(self, tmp_path):
        save_png(tmp_path / "a.png", noise(1)[0], {"latents": "\udcff.npy"})
        assert read_text(tmp_path / "a.png") == {"latents": r"\udcff.npy"}

    def test_the_same_twice_gives_the_same_bytes_in_any_order_of_keys(self, tmp_path):
        save_png(tmp_path / "a.png", noise(1)[0], {"a": 1, "b": 2})
        save_png(tmp_path / "b.png", noise(1)[0], {"b": 2, "a": 1})
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_a_failure_leaves_the_earlier_file_alone(self, tmp_path):
        save_png(tmp_path / "a.png", noise(1)[0])
        before = (tmp_path / "a.png").read_bytes()
        with pytest.raises((TypeError, ValueError)):
            save_png(tmp_path / "a.png", noise(1)[0].astype(np.float64))
        assert (tmp_path / "a.png").read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"]

    def test_what_is_no_png_is_an_os_error(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"no image")
        for read in (load_png, read_text):
            with pytest.raises(OSError, match=r"a\.png"):
                read(tmp_path / "a.png")
            with pytest.raises(OSError, match=r"b\.png"):
                read(tmp_path / "b.png")


def test_the_tools_that_need_no_torch_do_not_import_it():
    modules = (
        "engine.png, images.tiles, images.video, gan.latent.vectors, gan.latent.arithmetic, gan.latent.render"
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
