"""What people report about GAN projects again and again: a test for each, with a public report of its kind.

That a photo can be projected into latent space (https://github.com/carpedm20/DCGAN-tensorflow/issues/274) is
tested in tests/test_edit.py.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from engine.checkpoint import load
from engine.png import load_png, read_text
from engine.runs import checkpoints, sample_grids
from gan.generator import LoadedGenerator, load_generator
from gan.latent.vectors import draw
from gan.metrics.pixels import pairwise_distances
from gan.monitor import Limits
from gan.trainer import Trainer
from images import decode
from images.dataset import load_folder
from images.tiles import GAP
from tests.conftest import TINY, VARIANTS, copy_some, run_training
from tests.in_process import ROOT, refusal, succeed
from tests.run_contents import assert_same_run, count_event_file_times, newest_run, read_config, steps
from tests.small_trainer import set_weight

QUICK = replace(Limits(), grace=12, window=8, sample_window=8, min_probability=0.04)
"""Alarms after a few steps."""


@pytest.fixture(scope="module")
def ninety(many_pictures, tmp_path_factory) -> Path:
    """A run of 2 steps on ninety images, some of them held out; do not change it."""
    folder = copy_some(many_pictures, 90, tmp_path_factory.mktemp("ninety") / "images")
    with contextlib.chdir(folder.parent):
        assert run_training(folder, "--steps", 2) == 0
        return newest_run().absolute()


@pytest.fixture
def run(ninety, tmp_path, monkeypatch) -> Path:
    """A copy of that run to write into, in the working directory's outputs/."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(ninety, tmp_path / "outputs" / ninety.name))


@pytest.fixture(scope="module")
def honest(ninety, tmp_path_factory) -> dict:
    """The scores of that run, without a network."""
    run = Path(shutil.copytree(ninety, tmp_path_factory.mktemp("honest") / ninety.name))
    no_network = mock.Mock(side_effect=OSError("no network"))
    with mock.patch("socket.socket.connect", no_network), mock.patch("socket.getaddrinfo", no_network):
        scores = evaluated(run)
    no_network.assert_not_called()
    return scores


def copy_as(folder: Path, to: Path, *, names=("{}.png",), sizes=((40, 40),), modes=("RGB",)) -> Path:
    """Copy the images of a folder, with each of these names, sizes and modes in turn."""
    for index, path in enumerate(sorted(folder.iterdir())):
        name, size, mode = (values[index % len(values)] for values in (names, sizes, modes))
        target = to / name.format(path.stem)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.resize(size).convert(mode).save(target, None if target.suffix else "PNG")
    return to


def pixels(path: Path) -> np.ndarray:
    """An image, uint8 [3, H, W]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def tiles(path: Path, size: int = 32) -> np.ndarray:
    """The images of a grid, uint8 [N, 3, S, S]."""
    grid, side = load_png(path), size + GAP
    rows, columns = (range(0, length, side) for length in grid.shape[1:])
    return np.stack([grid[:, y : y + size, x : x + size] for y in rows for x in columns])


def evaluated(run: Path) -> dict:
    """The scores that evaluate.py writes, by feature space and name."""
    ended = succeed("evaluate.py", run, "--k", 3, "--draws", 2)
    return json.loads(Path(ended.lines[-1]).read_text(encoding="utf-8"))["scores"]


def train_and_resume(train: Callable[..., int], folder: Path, size: int, *flags: object) -> Path:
    """A run of two steps, resumed after the first."""
    narrow = ("--generator-widths", 4, 4, 4, 4, "--discriminator-widths", 4, 4, 4, 4)
    flags = ("--image-size", size, *narrow, "--sample-every", 100, *flags)
    assert train(folder, *flags, "--steps", 1) == 0
    assert train("--resume", "--steps", 2) == 0
    run = newest_run()
    assert run.name.endswith(f"{size}px")
    assert tiles(sample_grids(run)[-1], size).shape == (64, 3, size, size)
    generator = load_generator(run)
    assert (generator.step, generator.image_size) == (2, size)
    assert generator.images(draw(2, 100, 0)).shape == (2, 3, size, size)
    return run


def trouble(monkeypatch: pytest.MonkeyPatch, cause, rollbacks: int) -> None:
    """Call `cause(trainer)` after each step until the run has rolled back so often."""
    step, roll_back = Trainer.step, Trainer.roll_back

    def troubled_step(self: Trainer) -> None:
        step(self)
        if getattr(self, "times", 0) < rollbacks:
            cause(self)

    def count(self: Trainer, rollback, state) -> None:
        roll_back(self, rollback, state)
        self.times = rollback.times

    monkeypatch.setattr("gan.loop.Limits", lambda: QUICK)
    monkeypatch.setattr(Trainer, "step", troubled_step)
    monkeypatch.setattr(Trainer, "roll_back", count)


@pytest.mark.parametrize(("size", "variant"), [(32, "default"), (64, "textbook"), (128, "textbook")])
def test_other_image_sizes(pictures, train, tmp_path, size, variant):
    """https://github.com/pytorch/examples/issues/486"""
    folder = copy_as(pictures, tmp_path / "photos", sizes=((128, 128), (300, 200), (70, 90), (500, 65)))
    run = train_and_resume(train, folder, size, *VARIANTS[variant])
    assert read_config(run)["data"]["images"] == 24
    assert load_generator(run).weights == ("ema" if variant == "default" else "raw")


def test_96_px_in_colour(pictures, train, tmp_path):
    """https://github.com/carpedm20/DCGAN-tensorflow/issues/162"""
    folder = copy_as(pictures, tmp_path / "photos", sizes=((96, 96),), modes=("RGB", "RGBA"))
    run = train_and_resume(train, folder, 96)
    colours = {pixels(path).mean((1, 2)).tobytes() for path in folder.iterdir()}
    assert {tile.mean((1, 2)).tobytes() for tile in tiles(run / "real.png", 96)} == colours
    red, green, blue = tiles(sample_grids(run)[-1], 96).transpose(1, 0, 2, 3)
    assert not np.array_equal(red, green)
    assert not np.array_equal(green, blue)


def test_no_image_matched(pictures, train, tmp_path):
    """https://github.com/carpedm20/DCGAN-tensorflow/issues/285"""
    names = ("{}.PNG", "a/{}.Jpg", "a/b/{}.jpeg", "{}.webp", "{}.bmp", "лица/{}", "{}.tif", "[1] {}.gif")
    folder = copy_as(pictures, tmp_path / "photos", names=names)
    assert train(folder, "--steps", 1) == 0
    assert read_config(newest_run())["data"]["images"] == 24
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "list.txt").write_text("a list")
    assert f"no image in {tmp_path / 'texts'}" in refusal("train_gan.py", tmp_path / "texts")


def test_a_flat_folder(pictures, train, tmp_path):
    """https://github.com/pytorch/examples/issues/236"""
    for index, names in enumerate((["{}.png"], ["faces/{}.png"], ["ann/{}.png", "bob/{}.png"])):
        assert train(copy_as(pictures, tmp_path / f"{index}", names=names), "--steps", 1) == 0
        assert read_config(newest_run())["data"]["images"] == 24


def test_grey_images(pictures, train, tmp_path):
    """https://github.com/carpedm20/DCGAN-tensorflow/issues/26"""
    for modes in (("L", "LA", "I;16", "1"), ("RGB", "L")):
        assert train(copy_as(pictures, tmp_path / modes[0], modes=modes), "--steps", 1) == 0
        run = newest_run()
        data = read_config(run)["data"]
        assert (data["images"], data["skipped"]) == (24, 0)
        colour = (tiles(run / "real.png").max(1) - tiles(run / "real.png").min(1)).max((1, 2))
        assert (colour > 10).sum() == (12 if "RGB" in modes else 0)


def test_a_truncated_image_after_hours(pictures, train, tmp_path, monkeypatch):
    """https://github.com/lucidrains/stylegan2-pytorch/issues/7"""
    folder = copy_as(pictures, tmp_path / "photos", names=("{}.png", "{}.jpg"))
    last = sorted(folder.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-20])
    step, listed = Trainer.step, []

    def damage_all(self: Trainer) -> None:
        listed.append((newest_run() / "skipped.txt").read_text())
        for path in folder.iterdir():
            path.write_bytes(path.read_bytes()[:100])
        step(self)

    monkeypatch.setattr(Trainer, "step", damage_all)
    assert train(folder, "--steps", 8) == 0  # every image more than once
    assert listed[0].startswith(f"{last.name}\t")
    assert listed[0] == listed[-1]
    assert steps(checkpoints(newest_run()))[-1] == 8


def test_one_face_alone_equals_the_same_face_in_a_grid(run):
    """https://github.com/soumith/dcgan.torch/issues/19"""
    grid = tiles(succeed("sample.py", run, "--seed", 9).lines[-1]).astype(int)
    for count in (1, 3, 17):
        succeed("sample.py", run, "--seed", 9, "--count", count, "--separate", run / f"{count}")
        for index in range(count):
            alone = load_png(run / f"{count}" / f"{index:05d}.png")
            assert abs(grid[index] - alone).max() <= 1


def test_good_until_some_step_then_collapse(many_pictures, train, monkeypatch, capsys):
    """https://github.com/carpedm20/DCGAN-tensorflow/issues/270"""

    def collapse(trainer: Trainer) -> None:
        if trainer.step_count >= 18:
            with torch.no_grad():
                for network in (trainer.generator, trainer.average.network):
                    network.project.weight.mul_(1e-9)  # all latent vectors give the same image

    trouble(monkeypatch, collapse, rollbacks=1)
    flags = ("--steps", 28, "--log-every", 2, "--sample-every", 4, "--checkpoint-every", 8)
    assert train(many_pictures, *flags) == 0
    printed = "".join(capsys.readouterr())
    assert "alarm: mode collapse" in printed
    assert "returning to step 16 " in printed
    assert steps(sample_grids(newest_run()))[-1] == 28
    first, *_, last = (pairwise_distances(tiles(path)).mean() for path in sample_grids(newest_run()))
    assert last > first / 2


def test_loss_of_d_at_0(many_pictures, train, monkeypatch, capsys):
    """https://github.com/carpedm20/DCGAN-tensorflow/issues/300"""
    start = {}

    def freeze(trainer: Trainer) -> None:
        """G stays as it was at the start, so that D wins."""
        if not start:
            start.update(copy.deepcopy(trainer.generator.state_dict()))
        trainer.generator.load_state_dict(start)

    trouble(monkeypatch, freeze, rollbacks=9)
    flags = ("--discriminator-widths", 16, 32, 64, 128, "--normalisation", "none", "--learning-rate", 1e-3)
    flags += ("--held-out", 0, "--log-every", 2, "--sample-every", 100, "--checkpoint-every", 8)
    assert train(many_pictures, *flags, "--steps", 1000) == 3
    assert "D wins" in capsys.readouterr().err
    events = (newest_run() / "events.txt").read_text()
    assert all(f"rollback {number} of 3" in events for number in (1, 2, 3))
    succeed("sample.py", newest_run())


def test_a_resume_that_restarts_or_collapses(tiny_run, pictures, train, monkeypatch):
    """https://github.com/carpedm20/DCGAN-tensorflow/issues/262

    https://github.com/AlexiaJM/RelativisticGAN/issues/11
    """
    count_event_file_times(monkeypatch)
    assert train(pictures, "--steps", 2, "--seed", 3) == 0
    assert train("--resume", "--steps", 6) == 0
    assert_same_run(newest_run(), tiny_run)


def test_a_nan_loop(pictures, train, monkeypatch, capsys):
    """https://github.com/lucidrains/lightweight-gan/issues/92"""
    step = Trainer.step

    def poisoned_step(self: Trainer) -> None:
        step(self)
        if self.step_count == 5:
            set_weight(self.generator.project.weight, float("nan"))

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", poisoned_step)
        assert train(pictures, "--steps", 50, "--log-every", 4, "--checkpoint-every", 4) == 3
    assert "NaN or infinite at step 6" in capsys.readouterr().err
    assert steps(checkpoints(newest_run())) == [4]
    assert train("--resume", "--steps", 8) == 0
    assert steps(checkpoints(newest_run())) == [4, 8]


def test_no_gpu(pictures, train, monkeypatch, capsys):
    """https://github.com/junyanz/pytorch-CycleGAN-and-pix2pix/issues/2"""
    # As if a GPU had written the checkpoint.
    with monkeypatch.context() as patch:
        patch.setattr("torch.serialization.location_tag", lambda _: "cuda:0")
        assert train(pictures, "--device", "auto", "--steps", 1) == 0
    assert "; cpu, float32" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(checkpoints(newest_run())[-1], weights_only=True)
    assert train("--resume", "--device", "auto", "--steps", 2) == 0
    succeed("sample.py", newest_run())
    message = "--device cuda is not available on this machine; available: cpu"
    assert message in refusal("sample.py", newest_run(), "--device", "cuda")


def test_workers_where_processes_are_spawned(many_pictures, tmp_path):
    """https://github.com/pytorch/examples/issues/352"""
    assert len(list(many_pictures.iterdir())) >= decode.MIN_FILES_FOR_WORKERS
    # As on Windows.
    (tmp_path / "sitecustomize.py").write_text("import os; del os.fork")
    ended = subprocess.run(
        [sys.executable, ROOT / "train_gan.py", many_pictures, *TINY, "--workers", "1", "--dry-run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, "Error" in ended.stderr) == (0, False), ended.stderr
    assert "100 images from" in ended.stdout
    for script in ROOT.glob("*.py"):
        runpy.run_path(str(script), run_name="__mp_main__")  # what a spawned process does first


def test_vector_arithmetic(run):
    """https://github.com/carpedm20/DCGAN-tensorflow/issues/147"""
    expression = "3,17,42 - 5,8,9 + 11,12,13"
    lines = succeed("interpolate.py", run, "--arithmetic", expression).lines
    picture, generator = Path(lines[-1]), load_generator(run)
    assert picture.parent == run / "arithmetic"
    assert read_text(picture)["arithmetic"] == expression
    z = draw(64, generator.latent_size, generator.seed)
    around = np.load(picture.with_suffix(".npy"), allow_pickle=False)
    expected = z[[3, 17, 42]].mean(0) - z[[5, 8, 9]].mean(0) + z[[11, 12, 13]].mean(0)
    assert np.allclose(around[4], expected, atol=1e-6)
    _, height, width = load_png(picture).shape
    assert height > 4 * 32
    assert width > 6 * 32
    outside = int((abs(around[4]) > 1).sum())
    assert f"{outside} of the 100 values of the result lie outside" in lines[0]
    assert "--keep-in-range" in lines[0]


def test_ninety_images_memorised(ninety, honest, run, monkeypatch):
    """https://github.com/lucidrains/denoising-diffusion-pytorch/issues/17"""
    data = load_folder(ninety.parents[1] / "images", 32, cache=run.parent / "cache", workers=0, held_out=0.05)
    training = data.images[data.training_indices]

    def memorised(_: LoadedGenerator, z: np.ndarray) -> np.ndarray:
        rows = np.abs(z[:, 0] * 1e6).astype(int) % len(training)
        return training[rows][..., ::-1]  # mirrored

    monkeypatch.setattr(LoadedGenerator, "images", memorised)
    copied = evaluated(run)
    for scores, is_copied in ((honest, False), (copied, True)):
        close = scores["pixels"]["close to training"]
        assert (close["interval"][0] > close["floor_interval"][1]) == is_copied
    (picture,) = (run / "evaluation").glob("*-nearest.png")
    row = load_png(picture)[:, -32:]  # a generated image, then its nearest training images
    places = range(32, row.shape[2] - 31)
    assert any(np.array_equal(row[..., x : x + 32], row[..., 31::-1]) for x in places)


def test_images_decoded_again_and_again(pictures, train, monkeypatch):
    """https://github.com/affinelayer/pix2pix-tensorflow/issues/31"""
    decoded, original = [], decode.decode

    def count(path: Path, size: int) -> np.ndarray:
        decoded.append(path)
        return original(path, size)

    monkeypatch.setattr(decode, "decode", count)
    for _ in range(2):
        assert train(pictures, "--steps", 8) == 0  # 2.7 epochs
    assert train("--resume", "--steps", 9) == 0
    assert len(decoded) == len(set(decoded)) == 24


def test_fid_offline(honest):
    """https://github.com/NVlabs/stylegan2-ada-pytorch/issues/234"""
    assert honest["random"]["Fréchet distance"]["score"] > honest["random"]["Fréchet distance"]["floor"] > 0


def test_how_do_i_sample(run, tmp_path):
    """https://github.com/tensorlayer/DCGAN/issues/24"""
    ended = subprocess.run(
        [sys.executable, ROOT / "sample.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    picture = tmp_path / ended.stdout.splitlines()[-1]
    assert picture.parent == run / "grids"
    assert len({tile.tobytes() for tile in tiles(picture)}) == 64


def test_checkerboard(honest, run):
    """https://github.com/yunjey/stargan/issues/116"""
    (path,) = checkpoints(run)
    state = load(path, mapped=False)
    # More of every feature at even pixels, as from a kernel that its stride does not divide.
    state["average"]["layers.11.weight"][:, :, ::2, ::2] += 0.02
    torch.save(state, path)
    for scores, is_checkered in ((honest, False), (evaluated(run), True)):
        score = scores["pixels"]["checkerboard"]
        assert (score["score"] > 2 * score["floor"]) == is_checkered
