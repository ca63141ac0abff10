"""train_gan.py as its user has it, called in this process: what it reads, tells, leaves and refuses."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import UserError
from engine.png import load_png
from engine.runs import checkpoint_path, checkpoints, create_run, sample_path, samples, step_of
from gan.generator import load_generator
from gan.latent.vectors import draw
from gan.trainer import Trainer
from tests.conftest import VARIANTS
from tests.in_process import call
from tests.run_contents import assert_same_run, newest_run, read_config, read_metrics, steps


def test_what_a_run_leaves(pictures, train, capsys):
    assert train(pictures, "--steps", 5, "--seed", 4, "--name", "my faces") == 0
    run = newest_run()
    assert run.name == "0001-my-faces-32px"
    assert sorted(path.name for path in run.iterdir() if "tfevents" not in path.name) == [
        *(".lock", "checkpoints", "config.json", "metrics.jsonl", "real.png", "samples", "skipped.txt")
    ]
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    assert steps(samples(run)) == [0, 2, 4, 5]
    assert steps(checkpoints(run)) == [2, 4, 5]
    assert [line["step"] for line in read_metrics(run)] == [1, 2, 3, 4, 5]
    info = read_config(run)
    assert info["settings"]["seed"] == 4
    assert (info["data"]["images"], info["data"]["folder"]) == (24, str(pictures))
    assert {"torch", "python", "threads", "instruction_set"} <= set(info["environment"])
    out = capsys.readouterr().out
    assert "24 images from" in out
    assert f"saved in {checkpoint_path(run, 5)}" in out
    assert load_png(run / "real.png").shape == (3, 3 * 34 - 2, 8 * 34 - 2)
    assert load_png(sample_path(run, 0)).shape == (3, 8 * 34 - 2, 8 * 34 - 2)


def test_sample_every_step_and_minutes(pictures, train):
    assert train(pictures, "--minutes", 0.004, "--sample-every", 1) == 0
    last = step_of(checkpoints(newest_run())[-1])
    assert steps(samples(newest_run())) == list(range(last + 1))


def test_two_starts_never_share_a_folder_and_a_seed_makes_them_equal(pictures, train):
    for seed in (1, 1, 2):
        train(pictures, "--steps", 3, "--seed", seed)
    one, same, other = sorted(Path("outputs").iterdir())
    assert [run.name[:4] for run in (one, same, other)] == ["0001", "0002", "0003"]
    assert_same_run(one, same)
    assert read_metrics(one) != read_metrics(other)
    assert not np.array_equal(load_png(sample_path(one, 0)), load_png(sample_path(other, 0)))


def test_starts_at_the_same_moment_have_folders_and_numbers_of_their_own(tmp_path):
    made: list[Path] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        made.extend(create_run(tmp_path, "faces", 32) for _ in range(10))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.name[:4] for run in made}) == len(made) == 80


def test_dry_run_tells_and_writes_no_run(pictures, train, capsys):
    assert train(pictures, "--dry-run") == 0
    out = capsys.readouterr().out
    parts = ("generator", "discriminator", "parameters", "memory", "24 images", "float32", "12 x 2 x 2")
    for part in parts:
        assert part in out
    assert not Path("outputs").exists()


@pytest.mark.parametrize("faster", ["float32", "bfloat16"])
def test_auto_says_which_precision_proved_faster(pictures, train, monkeypatch, capsys, faster):
    seconds = {torch.float32: 1.0, torch.bfloat16: 1.0, getattr(torch, faster): 0.1}
    monkeypatch.setattr("engine.device._product_seconds", seconds.get)
    assert train(pictures, "--precision", "auto", "--dry-run") == 0
    assert f"; cpu, {faster}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "form"),
    [(32, "default"), (64, "plain"), (96, "default"), (128, "plain")],
)
def test_image_sizes_train_sample_and_resume(pictures, train, tmp_path, size, form):
    large = tmp_path / "large"
    large.mkdir()
    for path in pictures.iterdir():
        Image.open(path).resize((size, size)).save(large / path.name)
    widths = ("--generator-widths", 4, 4, 4, 4, "--discriminator-widths", 4, 4, 4, 4)
    words = ("--image-size", size, *widths, *VARIANTS[form], "--sample-every", 100)
    assert train(large, *words, "--steps", 1) == 0
    assert train("--resume", "--steps", 2) == 0
    run = newest_run()
    assert run.name.endswith(f"{size}px")
    assert load_png(samples(run)[-1]).shape == (3, 8 * (size + 2) - 2, 8 * (size + 2) - 2)
    generator = load_generator(run)
    assert (generator.step, generator.weights) == (2, "ema" if form == "default" else "raw")
    assert generator.images(draw(2, 100, 0)).shape == (2, 3, size, size)


def test_a_wrong_size_is_refused_with_the_nearest_good_ones(pictures, train):
    with pytest.raises(UserError, match=r"multiple of 16 .* not 50; nearest: 48 or 64"):
        train(pictures, "--image-size", 50)


def test_fewer_images_than_the_batch_are_said_and_fewer_than_8_refused(pictures, train, tmp_path, capsys):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(pictures.iterdir())[:9]:
        shutil.copy(path, few)
    assert train(few, "--batch-size", 64, "--steps", 1) == 0
    assert "batch size 7 instead of 64" in capsys.readouterr().out
    assert read_config(newest_run())["settings"]["batch_size"] == 7
    assert train("--resume", "--steps", 2) == 0
    for path in sorted(few.iterdir())[:2]:
        path.unlink()
    with pytest.raises(UserError, match="contains 7 usable images; training needs 8"):
        train(few, "--steps", 1)


def test_a_hostile_folder_is_trained_on_with_what_is_good_in_it(pictures, train, tmp_path, capsys):
    folder = Path(shutil.copytree(pictures, tmp_path / "лица и другое"))
    picture = (folder / "00.png").read_bytes()
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut short.png").write_bytes(picture[: len(picture) // 2])
    (folder / "no image.jpg").write_text("not at all")
    (folder / "again.png").write_bytes(picture)
    Image.new("RGB", (5, 5)).save(folder / "small.png")
    output = tmp_path / "мои прогоны" / "здесь"
    assert train(folder, "--steps", 2, "--output", output) == 0
    out = capsys.readouterr().out
    assert "25 images from" in out
    assert "4 files skipped" in out
    assert "1 exact duplicate" in out
    (run,) = output.iterdir()
    assert run.name == "0001-лица-и-другое-32px"
    skipped = (run / "skipped.txt").read_text(encoding="utf-8").splitlines()
    left_out = ["cut short.png", "empty.png", "no image.jpg", "small.png"]
    assert [line.split("\t")[0] for line in skipped] == left_out
    assert train("--resume", "--output", output, "--steps", 3) == 0
    assert steps(checkpoints(run))[-1] == 3


def test_a_folder_that_gives_no_image_is_one_line(train, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    for name in ("empty", "file", "missing"):
        with pytest.raises(UserError, match=name) as told:
            train(tmp_path / name, "--steps", 1)
        assert "\n" not in str(told.value)
    assert not Path("outputs").exists()


def test_a_batch_that_does_not_fit_into_memory_is_one_line(pictures, train, monkeypatch):
    def too_much(self: Trainer) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Trainer, "step", too_much)
    with pytest.raises(UserError, match=r"not enough memory: a smaller --batch-size"):
        train(pictures, "--steps", 1)


def test_a_run_that_diverges_ends_with_its_own_code_and_resumes_from_before(
    pictures, train, monkeypatch, capsys
):
    whole = Trainer.step

    def poisoned(self: Trainer) -> None:
        whole(self)
        if self.step_count == 5:
            with torch.no_grad():
                self.generator.project.weight[0, 0] = float("nan")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", poisoned)
        assert train(pictures, "--steps", 50, "--log-every", 4, "--checkpoint-every", 4) == 3
    assert "NaN or infinite at step 6" in capsys.readouterr().err
    assert steps(checkpoints(newest_run())) == [4]
    assert train("--resume", "--steps", 8) == 0
    assert steps(checkpoints(newest_run())) == [4, 8]


def test_mistakes_are_one_line_and_code_2(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, said in [
        ((pictures, "--resume", "nowhere"), "nowhere is no run"),
        ((tmp_path / "no faces",), "no faces"),
        ((pictures, "--image-size", "33"), "32 or 48"),
        ((pictures, "--stpes", "3"), "--stpes"),
    ]:
        done = call("train_gan.py", *words)
        assert done.code == 2
        assert done.error.startswith("error: ")
        assert said in done.error
        assert done.error.count("\n") == 1


def test_an_output_folder_that_cannot_be_made_is_one_line(pictures, train, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken"):
        train(pictures, "--steps", 1, "--output", tmp_path / "taken")


def test_it_does_without_workers(pictures, train, monkeypatch):
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("engine.worker_pool.ProcessPoolExecutor", started)
    monkeypatch.setattr("images.decode.MIN_FILES_FOR_WORKERS", 1)
    assert train(pictures, "--steps", 2, "--workers", 0) == 0
    with pytest.raises(AssertionError, match="was started"):
        train(pictures, "--steps", 2, "--workers", 1, "--cache", "another")


def test_without_a_folder_it_draws_faces_and_says_so(train, capsys, monkeypatch):
    monkeypatch.setattr("faces.drawn.folder.FACES_COUNT", 12)
    assert train("--steps", 1) == 0
    told = capsys.readouterr().out
    assert "drawn faces" in told
    assert "train_gan.py FOLDER" in told
    assert "12 images" in told
