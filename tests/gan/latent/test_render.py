import re
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from engine.png import load_png, read_text
from gan.generator import LoadedGenerator
from gan.latent import render
from gan.latent.arithmetic import parse_expression
from gan.latent.render import (
    LatentSet,
    save_arithmetic,
    save_grid,
    save_images,
    save_interpolation,
)
from gan.latent.vectors import draw, interpolate, load_latents, values_outside_prior
from images.tiles import GAP, number_tiles, tile

SIDE = 32
SIZE = 20


@dataclass
class FakeGenerator:
    """A fake `LoadedGenerator`; an image shows the first values of its z."""

    run: Path
    step: int = 300
    weights: str = "ema"
    latent_size: int = SIZE
    image_size: int = SIDE
    is_file = False
    stamp = LoadedGenerator.stamp

    def images(self, z):
        z = np.asarray(z, np.float32)
        assert z.shape[1:] == (SIZE,)
        levels = np.clip(np.round((z[:, :12] + 2) * 63.75), 0, 255).astype(np.uint8).reshape(-1, 3, 2, 2)
        return levels.repeat(SIDE // 2, axis=2).repeat(SIDE // 2, axis=3)


@pytest.fixture
def generator(tmp_path):
    return FakeGenerator(tmp_path / "0007-顔")


def faces(count: int = 64, seed: int = 5) -> LatentSet:
    return LatentSet(draw(count, SIZE, seed), {"seed": seed}, f"seed_{seed}")


class TestGrid:
    def test_picture_latents_and_text(self, generator):
        file = save_grid(generator, faces(), 8)
        assert file == generator.run / "grids" / "step_000300-seed_5-8x8.png"
        assert np.array_equal(load_png(file), tile(generator.images(faces().z), 8))
        assert np.array_equal(load_latents(file.with_suffix(".npy"), SIZE), faces().z)
        assert read_text(file) == {"run": "0007-顔", "step": "300", "seed": "5", "weights": "ema"}

    def test_latents_are_written_before_the_picture(self, generator):
        (generator.run / "grids" / "step_000300-seed_5-8x8.npy").mkdir(parents=True)
        with pytest.raises(UserError, match="8x8"):
            save_grid(generator, faces(), 8)
        assert not list((generator.run / "grids").glob("*.png"))

    def test_numbered_grid(self, generator):
        plain, numbered = save_grid(generator, faces(), 8), save_grid(generator, faces(), 8, numbered=True)
        assert plain != numbered
        assert np.array_equal(load_png(numbered), tile(number_tiles(generator.images(faces().z)), 8))

    def test_different_grids_have_different_files(self, generator):
        raw = FakeGenerator(generator.run, weights="raw")
        later = FakeGenerator(generator.run, step=301)
        files = {
            save_grid(generator, faces(), 8),
            save_grid(generator, faces(), 4),
            save_grid(generator, faces(seed=6), 8),
            save_grid(raw, faces(), 8),
            save_grid(later, faces(), 8),
        }
        assert len(files) == 5

    def test_incomplete_grid(self, generator):
        file = save_grid(generator, faces(10), 4)
        assert file.name.endswith("10_in_3x4.png")
        assert load_png(file).shape == (3, 3 * (SIDE + GAP) - GAP, 4 * (SIDE + GAP) - GAP)
        assert save_grid(generator, faces(3), 8).name.endswith("-1x3.png")
        assert np.array_equal(load_latents(file.with_suffix(".npy"), SIZE), faces(10).z)

    def test_too_large_picture_is_refused_before_computing(self, generator, monkeypatch):
        monkeypatch.setattr(render, "MAX_PIXELS", 63 * (SIDE + GAP) ** 2)
        monkeypatch.setattr(FakeGenerator, "images", None)
        with pytest.raises(UserError, match=r"64 images .* 63 fit"):
            save_grid(generator, faces(), 8)

    def test_unwritable_folder(self, generator):
        generator.run.mkdir()
        (generator.run / "grids").write_text("a file where the folder should be")
        with pytest.raises(UserError, match="grids"):
            save_grid(generator, faces(), 8)


class TestImages:
    def test_images_latents_and_text(self, generator, tmp_path):
        folder = tmp_path / "single faces"
        save_images(generator, faces(70), folder)
        names = sorted(file.name for file in folder.iterdir())
        assert names == [*(f"{index:05d}.png" for index in range(70)), "latents.npy"]
        for index, image in enumerate(generator.images(faces(70).z)):
            assert np.array_equal(load_png(folder / f"{index:05d}.png"), image)
        assert read_text(folder / "00069.png") == {
            "run": "0007-顔",
            "step": "300",
            "seed": "5",
            "weights": "ema",
            "face": "69",
        }
        assert np.array_equal(load_latents(folder / "latents.npy", SIZE), faces(70).z)

    def test_memory_does_not_grow_with_the_number_of_images(self, generator, tmp_path, monkeypatch):
        written = []
        monkeypatch.setattr(render, "save_png", lambda file, image, text, **_: written.append(file.name))
        many = faces(20_000)
        tracemalloc.start()
        save_images(generator, many, tmp_path / "many")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(set(written)) == 20_000
        # All images together are 61 MB.
        assert peak < 15_000_000

    def test_folder_that_is_not_empty_or_a_file(self, generator, tmp_path):
        (tmp_path / "00007.png").write_bytes(b"image of an earlier call")
        with pytest.raises(UserError, match="not empty"):
            save_images(generator, faces(5), tmp_path)
        (tmp_path / "empty").mkdir()
        save_images(generator, faces(5), tmp_path / "empty")
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="file"):
            save_images(generator, faces(5), tmp_path / "file")


class TestInterpolation:
    def test_strip_is_one_row(self, generator):
        file, z = save_interpolation(generator, faces(), (3, 17, 42), form="strip", steps=5, method="linear")
        assert file.parent == generator.run / "paths"
        assert re.fullmatch(r"step_000300-seed_5-3_17_42-linear-5_steps-strip\.png", file.name)
        assert np.array_equal(z, interpolate(faces().z[[3, 17, 42]], 5, "linear"))
        assert np.array_equal(load_png(file), tile(generator.images(z), 9))
        assert np.array_equal(load_latents(file.with_suffix(".npy"), SIZE), z)
        text = read_text(file)
        assert (text["tiles"], text["method"], text["seed"]) == ("3,17,42", "linear", "5")

    @pytest.mark.parametrize("loop", [False, True])
    def test_grid_has_a_row_for_each_pair(self, generator, loop):
        file, z = save_interpolation(generator, faces(), (3, 17, 42), steps=6, loop=loop)
        pairs = [(3, 17), (17, 42), (42, 3)][: 3 if loop else 2]
        assert np.array_equal(load_png(file), tile(generator.images(z), 6))
        rows = z.reshape(len(pairs), 6, SIZE)
        for row, pair in zip(rows, pairs, strict=True):
            assert np.array_equal(row, interpolate(faces().z[list(pair)], 6, "spherical"))

    @pytest.mark.parametrize("loop", [False, True])
    def test_films_show_each_vector_once(self, generator, loop):
        count = 12 if loop else 9
        file, z = save_interpolation(generator, faces(), (1, 2, 3, 4), form="gif", steps=4, loop=loop, fps=10)
        assert len(z) == count + (not loop)
        with Image.open(file) as film:
            assert (film.n_frames, film.info["duration"], film.size) == (len(z), 100, (SIDE, SIDE))
        assert np.array_equal(load_latents(file.with_suffix(".npy"), SIZE), z)
        file, z = save_interpolation(generator, faces(), (1, 2, 3, 4), form="mp4", steps=4, loop=loop, fps=10)
        with imageio.get_reader(file) as reader:
            assert reader.count_frames() == len(z)

    def test_missing_encoder_leaves_no_files(self, generator, monkeypatch):
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
        with pytest.raises(UserError, match="an MP4 needs the extra 'video'"):
            save_interpolation(generator, faces(), (1, 2), form="mp4")
        assert not generator.run.exists()

    def test_clamped_interpolation(self, generator):
        file, z = save_interpolation(generator, faces(), (3, 17), method="spherical")
        clamped_file, clamped = save_interpolation(
            generator, faces(), (3, 17), method="spherical", clamped=True
        )
        assert file != clamped_file
        assert values_outside_prior(z)[0] > 0
        assert np.array_equal(clamped, np.clip(z, -1, 1))

    def test_long_paths_have_short_unique_names(self, generator):
        first, _ = save_interpolation(generator, faces(), tuple(range(64)), form="gif", steps=2)
        second, _ = save_interpolation(generator, faces(), (*range(63), 0), form="gif", steps=2)
        assert first != second
        assert len(first.name) < 120

    def test_too_long_strip(self, generator, monkeypatch):
        monkeypatch.setattr(render, "MAX_PIXELS", 15 * (SIDE + GAP) ** 2)
        with pytest.raises(UserError, match="too many for one picture"):
            save_interpolation(generator, faces(), (1, 2), form="strip", steps=16)


class TestArithmetic:
    EXPRESSION = "3,17,42 - 5,8,9 + 0.5*(11)"

    def test_picture_latents_and_text(self, generator):
        terms = parse_expression(self.EXPRESSION, 64)
        file, around = save_arithmetic(generator, faces(), self.EXPRESSION, terms)
        z = faces().z
        expected = z[[3, 17, 42]].mean(0) - z[[5, 8, 9]].mean(0) + 0.5 * z[11]
        assert np.allclose(around[4], expected, atol=1e-6)
        assert np.abs(around - around[4]).max() <= 0.25 + 1e-6
        assert file == generator.run / "arithmetic" / "step_000300-seed_5-3,17,42-5,8,9+0.5x(11).png"
        assert read_text(file)["arithmetic"] == self.EXPRESSION
        assert read_text(file)["seed"] == "5"
        assert np.array_equal(load_latents(file.with_suffix(".npy"), SIZE), around)
        picture = load_png(file)
        block = tile(generator.images(around), 3)
        assert np.array_equal(picture[:, -block.shape[1] - 4 : -4, -block.shape[2] - 4 : -4], block)

    def test_clamped_result_and_neighbours(self, generator):
        terms = parse_expression("3*1 - 2*2", 64)
        file, around = save_arithmetic(generator, faces(), "3*1 - 2*2", terms)
        clamped_file, clamped = save_arithmetic(generator, faces(), "3*1 - 2*2", terms, clamped=True)
        assert file != clamped_file
        assert values_outside_prior(around)[0] > 0
        assert values_outside_prior(clamped) == (0, 0.0)
        assert np.array_equal(clamped[4], np.clip(around[4], -1, 1))
        assert len(np.unique(clamped, axis=0)) == 9

    def test_many_tiles(self, generator):
        expression = ",".join(map(str, range(100)))
        file, _ = save_arithmetic(generator, faces(100), expression, parse_expression(expression, 100))
        assert len(file.name) < 120
        assert read_text(file)["arithmetic"] == expression
