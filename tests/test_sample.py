import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.png import load_png, read_text
from gan.generator import load_generator
from gan.latent.vectors import draw, save_latents
from images.tiles import GAP, number_tiles, scale_image, tile
from tests.in_process import call

sample = partial(call, "sample.py")


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """A writable copy of the tiny run, in a folder whose name has spaces and Cyrillic letters."""
    return Path(shutil.copytree(tiny_run, tmp_path / "runs of лица" / tiny_run.name))


def test_default_is_8_x_8_faces_of_the_newest_run(run):
    shutil.copytree(run, run.parent / "0000-older-32px")
    code, lines, _ = sample("--output", run.parent)
    assert code == 0
    picture, generator = Path(lines[-1]), load_generator(run)
    assert picture.parent == run / "grids"
    assert re.fullmatch(rf"step_{generator.step:06d}-seed_{generator.seed}-8x8\.png", picture.name)
    z = draw(64, generator.latent_size, generator.seed)
    assert np.array_equal(np.load(picture.with_suffix(".npy"), allow_pickle=False), z)
    assert np.array_equal(load_png(picture), tile(generator.images(z), 8))
    assert read_text(picture) == {
        "run": run.name,
        "step": str(generator.step),
        "seed": str(generator.seed),
        "weights": generator.weights,
    }
    assert f"{generator.weights} weights of {generator.checkpoint}" in lines[0]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (("--rows", 2, "--columns", 5), "2x5"),
        (("--rows", 2), "2x8"),
        (("--columns", 3), "8x3"),
        (("--count", 10), "10_in_3x4"),
        (("--count", 10, "--columns", 5), "2x5"),
        (("--count", 10, "--rows", 1), "1x10"),
        (("--count", 3, "--rows", 2, "--columns", 2), "3_in_2x2"),
    ],
)
def test_grid_shapes(run, options, shape):
    _, lines, _ = sample(run, *options)
    assert f"-{shape}." in lines[-1]
    rows, columns = map(int, shape.rpartition("_")[2].split("x"))
    assert load_png(lines[-1]).shape == (3, rows * (32 + GAP) - GAP, columns * (32 + GAP) - GAP)


def test_labels(run):
    plain = load_png(sample(run)[1][-1])
    numbered = load_png(sample(run, "--labels")[1][-1])
    generator = load_generator(run)
    images = generator.images(draw(64, generator.latent_size, generator.seed))
    assert np.array_equal(numbered, tile(number_tiles(images), 8))
    assert not np.array_equal(plain, numbered)


def test_scale_and_file(run, tmp_path):
    generator = load_generator(run)
    images = generator.images(draw(6, generator.latent_size, generator.seed))
    larger = np.stack([scale_image(image, 4) for image in images])
    code, lines, _ = sample(run, "--count", 6, "--scale", 4)
    assert (code, Path(lines[-1]).name[-10:]) == (0, "2x3-x4.png")
    assert np.array_equal(load_png(lines[-1]), tile(larger, 3))
    file = tmp_path / "new" / "faces"
    for _ in range(2):  # an existing file is replaced
        code, lines, _ = sample(run, "--count", 6, "--scale", 4, "--labels", "--file", file)
        assert (code, lines[-1]) == (0, f"{file}.png")
        assert np.array_equal(load_png(lines[-1]), tile(number_tiles(larger), 3))
        assert np.array_equal(np.load(f"{file}.npy"), draw(6, generator.latent_size, generator.seed))
    sample(run, "--count", 6, "--scale", 0.5, "--separate", tmp_path / "images")
    assert load_png(tmp_path / "images" / "00005.png").shape == (3, 16, 16)


def test_saved_latents(run, tmp_path):
    _, lines, _ = sample(run, "--seed", 4, "--count", 6)
    first = Path(lines[-1])
    _, lines, _ = sample(run, "--latents", first.with_suffix(".npy"), "--columns", 3)
    again = Path(lines[-1])
    assert again != first
    assert np.array_equal(load_png(again), load_png(first))
    assert read_text(again)["latents"] == first.with_suffix(".npy").name
    save_latents(tmp_path / "chosen.npy", draw(6, 100, 4)[[5]])
    _, lines, _ = sample(run, "--latents", tmp_path / "chosen.npy")
    row_of_last = load_png(first)[:, -32:, -32:]
    assert abs(load_png(lines[-1]).astype(int) - row_of_last).max() <= 1
    _, _, error = sample(run, "--latents", first.with_suffix(".npy"), "--rows", 2, "--columns", 2)
    assert "6 faces do not fit into 2 rows of 2" in error
    _, lines, _ = sample(run, "--latents", first.with_suffix(".npy"), "--rows", 2, "--count", 4)
    assert "4 faces" in lines[0]


def test_raw_weights_and_checkpoints(run):
    _, lines, _ = sample(run)
    default = Path(lines[-1])
    _, lines, _ = sample(run, "--raw")
    assert "-raw-" in lines[-1]
    assert "raw weights" in lines[0]
    assert read_text(lines[-1])["weights"] == "raw"
    generator = load_generator(run, raw=True)
    z = draw(64, generator.latent_size, generator.seed)
    assert np.array_equal(load_png(lines[-1]), tile(generator.images(z), 8))
    oldest = sorted((run / "checkpoints").glob("*.pt"))[0]
    step = int(oldest.stem.removeprefix("step_"))
    for name in (step, oldest):
        _, lines, _ = sample(run, "--checkpoint", name)
        assert f"(step {step:,})" in lines[0]
    assert default.exists()


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--count", 0), "--count must be 1 to"),
            (("--count", -5), "--count must be 1 to"),
            (("--count", 10**9), "--count must be 1 to"),
            (("--count", "many"), "--count"),
            (("--rows", 0), "--rows must be 1 to"),
            (("--columns", -2), "--columns must be 1 to"),
            (("--rows", 100_000), "must be at most 100,000, not 800,000"),
            (("--rows", 2, "--columns", 2, "--count", 5), "5 faces do not fit into 2 rows of 2"),
            (("--seed", -1), "--seed must be 0 or more"),
            (("--seed", 1, "--latents", "a.npy"), "give either --seed"),
            (("--separate", "a", "--labels"), "writes no grid"),
            (("--separate", "a", "--file", "b.png"), "writes no grid"),
            (("--file", "a.jpg"), "--file a.jpg must end in .png"),
            (("--file", "/"), "--file / is a folder"),
            (("--scale", 17), "--scale must be 0.1 to 16, not 17"),
            (("--scale", "big"), "--scale must be a number, not 'big'"),
            (("--checkpoint", 123456), "no checkpoint 123456"),
            (("--checkpoint", "6" * 400), "no checkpoint 666"),
            (("--device", "abacus"), "abacus"),
            (("--smile",), "--smile"),
        ],
    )
    def test_wrong_options(self, run, options, message):
        code, lines, error = sample(run, *options)
        assert (code, lines) == (2, [])
        assert message in error
        assert error.count("\n") == 1
        assert not (run / "grids").exists()

    def test_missing_runs(self, run, tmp_path):
        for options in (
            ("nowhere",),
            (tmp_path,),
            (1, "--output", tmp_path / "none"),
            (run / "config.json",),
        ):
            code, _, error = sample(*options)
            assert code == 2
            assert error.count("\n") == 1

    def test_unusable_latents(self, run, tmp_path):
        (tmp_path / "z.npy").write_bytes(b"PK\x03\x04 no archive")
        code, _, error = sample(run, "--latents", tmp_path / "z.npy")
        assert code == 2
        assert "is not a .npy file" in error
        save_latents(tmp_path / "z.npy", draw(3, 100, 0))
        assert "contains 3" in sample(run, "--latents", tmp_path / "z.npy", "--count", 4)[2]

    def test_unwritable_folders(self, run, tmp_path):
        (run / "grids").write_text("a file")
        assert "grids" in sample(run)[2]
        assert "not empty" in sample(run, "--count", 1, "--separate", tmp_path)[2]
        (tmp_path / "file").write_text("")
        assert "inside" in sample(run, "--count", 1, "--separate", tmp_path / "file" / "inside")[2]

    def test_too_many_faces_for_one_picture(self, run):
        code, _, error = sample(run, "--count", 100_000)
        assert code == 2
        assert "--separate FOLDER" in error
