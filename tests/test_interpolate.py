import shutil
from functools import partial
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from engine.png import load_png, read_text
from gan.generator import load_generator
from gan.latent import vectors
from gan.latent.vectors import draw, save_latents
from images.tiles import scale_image, tile
from tests.in_process import call

interpolate = partial(call, "interpolate.py")


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """A writable copy of the tiny run."""
    return Path(shutil.copytree(tiny_run, tmp_path / "runs" / tiny_run.name))


def test_default_is_a_grid_of_the_newest_run(run):
    code, lines, _ = interpolate("--output", run.parent)
    assert code == 0
    picture, generator = Path(lines[-1]), load_generator(run)
    assert picture.parent == run / "paths"
    z = draw(64, generator.latent_size, generator.seed)
    rows = [vectors.interpolate(z[[number, number + 1]], 8, "spherical") for number in range(3)]
    assert np.array_equal(load_png(picture), tile(generator.images(np.concatenate(rows)), 8))
    assert abs(np.load(picture.with_suffix(".npy"), allow_pickle=False)).max() > 1
    # An arc leaves the range of the prior, but nobody asked for that.
    assert len(lines) == 2


def test_path_through_given_faces(run):
    options = (run, "--seed", 5, "--tiles", 3, 17, 42, "--form", "strip", "--steps", 4, "--method", "linear")
    _, lines, _ = interpolate(*options)
    generator = load_generator(run)
    z = vectors.interpolate(draw(64, generator.latent_size, 5)[[3, 17, 42]], 4, "linear")
    assert np.array_equal(load_png(lines[-1]), tile(generator.images(z), 7))
    assert np.array_equal(np.load(Path(lines[-1]).with_suffix(".npy"), allow_pickle=False), z)
    assert read_text(lines[-1])["tiles"] == "3,17,42"
    # A straight line stays in the cube.
    assert len(lines) == 2
    assert "7 images by the" in lines[0]


@pytest.mark.parametrize(("loop", "frames"), [((), 9), (("--loop",), 12)])
def test_films(run, loop, frames):
    options = ("--tiles", 1, 2, 3, "--steps", 5, "--fps", 10, *loop)
    _, lines, _ = interpolate(run, *options, "--form", "gif")
    with Image.open(lines[-1]) as film:
        assert film.n_frames == frames
    _, lines, _ = interpolate(run, *options, "--form", "mp4")
    with imageio.get_reader(lines[-1]) as film:
        assert film.count_frames() == frames


def test_long_expression_is_printed_shortened(run):
    code, lines, _ = interpolate(run, "--arithmetic", "\n+ ".join(["3"] * 200), "--keep-in-range")
    assert code == 0
    assert len(lines) == 2
    assert lines[0].startswith("3 + 3 + 3")
    assert "... by the ema weights" in lines[0]


def test_scale_and_file(run, tmp_path):
    generator = load_generator(run)
    z = draw(64, generator.latent_size, generator.seed)
    path = ("--tiles", 1, 2, "--steps", 3, "--scale", 2)
    code, lines, _ = interpolate(run, *path, "--file", tmp_path / "new" / "walk")
    assert (code, lines[-1]) == (0, str(tmp_path / "new" / "walk.png"))
    images = [scale_image(image, 2) for image in generator.images(vectors.interpolate(z[1:3], 3))]
    assert np.array_equal(load_png(lines[-1]), tile(np.stack(images), 3))
    assert (tmp_path / "new" / "walk.npy").exists()
    for name in ("walk.gif", "walk.MP4"):
        assert interpolate(run, *path, "--file", tmp_path / name).lines[-1] == str(tmp_path / name)
    with Image.open(tmp_path / "walk.gif") as film:
        assert film.size == (64, 64)
    with imageio.get_reader(tmp_path / "walk.MP4", format="FFMPEG") as film:
        assert film.get_meta_data()["size"] == (64, 64)
    unscaled = load_png(interpolate(run, "--arithmetic", "3 - 4").lines[-1])
    result = interpolate(run, "--arithmetic", "3 - 4", "--scale", 2)
    assert result.lines[-1].endswith("3-4-x2.png")
    assert load_png(result.lines[-1]).shape[1] > 1.8 * unscaled.shape[1]


def test_vectors_beside_a_file_do_not_replace_others(run, tmp_path):
    save_latents(tmp_path / "mine.npy", draw(3, 100, 1))
    code, _, error = interpolate(run, "--file", tmp_path / "mine.png")
    assert code == 2
    assert f"the vectors of mine.png belong beside it, but {tmp_path / 'mine.npy'} exists" in error
    code, _, error = interpolate(run, "--latents", tmp_path / "mine.npy", "--file", tmp_path / "mine.gif")
    assert code == 2
    assert "would replace" in error
    assert np.array_equal(np.load(tmp_path / "mine.npy"), draw(3, 100, 1))
    assert list(tmp_path.glob("mine.[!n]*")) == []


def test_keep_in_range(run):
    for options in (("--arithmetic", "-2*3 + 4"), ("--method", "spherical")):
        _, lines, _ = interpolate(run, *options, "--keep-in-range")
        assert "outside" not in " ".join(lines)
        assert abs(np.load(Path(lines[-1]).with_suffix(".npy"), allow_pickle=False)).max() <= 1


def test_expression_with_a_leading_minus(run):
    for options in (["--arithmetic", "-3 + 5"], ["--arithmetic=-3+5"]):
        code, lines, error = interpolate(run, *options)
        assert (code, error) == (0, "")
        assert Path(lines[-1]).name.endswith("--3+5.png")


def test_faces_of_a_larger_grid_and_of_a_file(run):
    code, lines, _ = interpolate(run, "--count", 100, "--tiles", 98, 99, "--form", "strip")
    stored = Path(lines[-1]).with_suffix(".npy")
    assert code == 0
    code, lines, _ = interpolate(run, "--latents", stored, "--arithmetic", "7 - 0")
    around = np.load(Path(lines[-1]).with_suffix(".npy"), allow_pickle=False)
    z = draw(100, 100, load_generator(run).seed)
    assert np.allclose(around[4], z[99] - z[98], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tiles", 3), "two or more"),
        (("--tiles", 3, 64), "no face 64; give numbers from 0 to 63"),
        (("--tiles", -1, 3), "no face -1"),
        (("--tiles", "a", "b"), "--tiles"),
        (("--count", 10, "--tiles", 3, 10), "from 0 to 9"),
        (("--steps", 1), "--steps must be 2 to"),
        (("--steps", 10**7), "--steps must be 2 to"),
        (("--form", "gif", "--fps", 51), "frames per second"),
        (("--form", "mp4", "--fps", 0), "frames per second"),
        (("--form", "strip", "--fps", 3), "--fps is an option of a film"),
        (("--form", "avi"), "--form"),
        (("--form", "strip", "--file", "a.gif"), "--file a.gif must end in .png"),
        (("--form", "gif", "--file", "a.png"), "--file a.png must end in .gif"),
        (("--arithmetic", "3", "--file", "a.gif"), "--file a.gif must end in .png"),
        (("--file", "a.jpg"), "--file a.jpg must end in .png or .gif or .mp4"),
        (("--file", "a.gif", "--fps", 51), "frames per second"),
        (("--file", "."), "--file . is a folder"),
        (("--scale", 0), "--scale must be 0.1 to 16, not 0"),
        (("--scale", "nan"), "--scale must be 0.1 to 16, not nan"),
        (("--method", "cubic"), "--method"),
        (("--arithmetic", "3 - 64"), "3 - >>64<<"),
        (("--arithmetic", "3,17 % 5"), "3,17 >>%<< 5"),
        (("--arithmetic", ""), "empty"),
        (("--arithmetic", "3", "--tiles", 1, 2), "--tiles is an option of a path"),
        (("--arithmetic", "3", "--loop"), "--loop is an option of a path"),
        (("--seed", -1), "--seed must be 0 or more"),
        (("--latents", "nowhere.npy"), "nowhere.npy"),
    ],
)
def test_wrong_options(run, options, message):
    code, lines, error = interpolate(run, *options)
    assert (code, lines) == (2, [])
    assert message in error
    assert error.count("\n") == 1
    assert not (run / "paths").exists()
    assert not (run / "arithmetic").exists()
