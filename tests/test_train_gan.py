"""train_gan.py as its users run it, called in this process."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import UserError
from engine.png import load_png
from engine.runs import checkpoint_path, checkpoints, sample_grids, sample_path, step_of
from gan.trainer import Trainer
from tests.conftest import copy_some
from tests.in_process import call
from tests.run_contents import assert_same_run, newest_run, read_config, read_metrics, steps


def test_a_run_contains_checkpoints_samples_metrics_and_config(pictures, train, capsys):
    assert train(pictures, "--steps", 5, "--seed", 4, "--name", "my faces") == 0
    run = newest_run()
    assert run.name == "0001-my-faces-32px"
    assert sorted(path.name for path in run.iterdir() if "tfevents" not in path.name) == [
        *(".lock", "checkpoints", "config.json", "metrics.jsonl", "real.png", "samples", "skipped.txt")
    ]
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    assert steps(sample_grids(run)) == [0, 2, 4, 5]
    assert steps(checkpoints(run)) == [2, 4, 5]
    assert [line["step"] for line in read_metrics(run)] == [1, 2, 3, 4, 5]
    config = read_config(run)
    assert config["settings"]["seed"] == 4
    assert (config["data"]["images"], config["data"]["folder"]) == (24, str(pictures))
    assert {"torch", "python", "threads", "instruction_set"} <= set(config["environment"])
    out = capsys.readouterr().out
    assert "24 images from" in out
    assert f"saved in {checkpoint_path(run, 5)}" in out
    assert load_png(run / "real.png").shape == (3, 3 * 34 - 2, 8 * 34 - 2)
    assert load_png(sample_path(run, 0)).shape == (3, 8 * 34 - 2, 8 * 34 - 2)


def test_a_run_may_be_limited_in_minutes_and_sampled_at_every_step(pictures, train):
    assert train(pictures, "--minutes", 0.004, "--sample-every", 1) == 0
    last = step_of(checkpoints(newest_run())[-1])
    assert steps(sample_grids(newest_run())) == list(range(last + 1))


def test_runs_with_the_same_seed_are_equal(pictures, train):
    for seed in (1, 1, 2):
        train(pictures, "--steps", 3, "--seed", seed)
    first, same, other = sorted(Path("outputs").iterdir())
    assert [run.name[:4] for run in (first, same, other)] == ["0001", "0002", "0003"]
    assert_same_run(first, same)
    assert read_metrics(first) != read_metrics(other)
    assert not np.array_equal(load_png(sample_path(first, 0)), load_png(sample_path(other, 0)))


def test_a_dry_run_describes_the_networks_and_writes_nothing(pictures, train, capsys):
    assert train(pictures, "--dry-run") == 0
    out = capsys.readouterr().out
    for part in ("generator", "discriminator", "parameters", "memory", "24 images", "float32", "12 x 2 x 2"):
        assert part in out
    assert not Path("outputs").exists()


@pytest.mark.parametrize("faster", ["float32", "bfloat16"])
def test_auto_chooses_and_reports_the_faster_precision(pictures, train, monkeypatch, capsys, faster):
    seconds = {torch.float32: 1.0, torch.bfloat16: 1.0, getattr(torch, faster): 0.1}
    monkeypatch.setattr("engine.device._matmul_seconds", seconds.get)
    assert train(pictures, "--precision", "auto", "--dry-run") == 0
    assert f"; cpu, {faster}\n" in capsys.readouterr().out


def test_few_images_reduce_the_batch_size_and_fewer_than_8_are_refused(pictures, train, tmp_path, capsys):
    folder = copy_some(pictures, 9, tmp_path / "some")
    assert train(folder, "--batch-size", 64, "--steps", 1) == 0
    assert "batch size 6 instead of 64" in capsys.readouterr().out
    assert read_config(newest_run())["settings"]["batch_size"] == 6
    assert train("--resume", "--steps", 2) == 0
    for path in sorted(folder.iterdir())[:2]:
        path.unlink()
    with pytest.raises(UserError, match="contains 7 usable images; training needs 8"):
        train(folder, "--steps", 1)


def test_unusable_files_are_skipped_and_listed(pictures, train, tmp_path, capsys):
    folder = Path(shutil.copytree(pictures, tmp_path / "лица и другое"))
    image = (folder / "00.png").read_bytes()
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut short.png").write_bytes(image[: len(image) // 2])
    (folder / "no image.jpg").write_text("not at all")
    (folder / "again.png").write_bytes(image)
    Image.new("RGB", (5, 5)).save(folder / "small.png")
    output = tmp_path / "мои прогоны" / "здесь"
    assert train(folder, "--steps", 2, "--output", output) == 0
    out = capsys.readouterr().out
    first = "the first skipped: cut short.png: "
    for part in (
        "25 images from",
        "4 files skipped",
        "1 exact duplicate",
        first,
        "all are in the run's skipped.txt",
    ):
        assert part in out
    (run,) = output.iterdir()
    assert run.name == "0001-лица-и-другое-32px"
    skipped = (run / "skipped.txt").read_text(encoding="utf-8").splitlines()
    names = ["cut short.png", "empty.png", "no image.jpg", "small.png"]
    assert [line.split("\t")[0] for line in skipped] == names
    assert train("--resume", "--output", output, "--steps", 3) == 0
    assert steps(checkpoints(run))[-1] == 3


def test_running_out_of_memory_suggests_a_smaller_batch(pictures, train, monkeypatch):
    def run_out(self: Trainer) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Trainer, "step", run_out)
    with pytest.raises(UserError, match=r"not enough memory: use a smaller --batch-size"):
        train(pictures, "--steps", 1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--resume", "nowhere"), "nowhere is not a run"),
        (("missing",), "missing"),
        (("empty",), "empty"),
        (("file",), "file"),
        (("empty", "--image-size", "33"), "32 or 48"),
        (("empty", "--stpes", "3"), "--stpes"),
        (("--plain",), "--plain is now --preset textbook"),
    ],
)
def test_a_mistake_is_reported_in_one_line_with_exit_code_2(tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("text")
    ended = call("train_gan.py", *argv, "--device", "cpu", "--precision", "float32")
    assert ended.code == 2
    assert ended.error.startswith("error: ")
    assert message in ended.error
    assert ended.error.count("\n") == 1
    assert not Path("outputs").exists()


def test_an_output_folder_that_cannot_be_created_is_reported(pictures, train, tmp_path):
    (tmp_path / "taken").write_text("a file")
    for options in ((), ("--dry-run",)):
        for output in ("taken", "taken/inside"):
            with pytest.raises(UserError, match=r"taken.* cannot be written to: Not a directory"):
                train(pictures, "--steps", 1, "--output", tmp_path / output, *options)


def test_no_worker_is_started_with_0_workers(pictures, train, monkeypatch):
    def start(*_: object, **__: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("engine.worker_pool.ProcessPoolExecutor", start)
    monkeypatch.setattr("images.decode.MIN_FILES_FOR_WORKERS", 1)
    assert train(pictures, "--steps", 2, "--workers", 0) == 0
    with pytest.raises(AssertionError, match="was started"):
        train(pictures, "--steps", 2, "--workers", 1, "--cache", "another")


def test_without_a_folder_drawn_faces_are_trained_on(train, capsys, monkeypatch):
    monkeypatch.setattr("faces.drawn.folder.FACES_COUNT", 12)
    assert train("--steps", 1) == 0
    out = capsys.readouterr().out
    for part in ("drawn faces", "train_gan.py FOLDER", "12 images"):
        assert part in out
