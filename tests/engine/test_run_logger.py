import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from engine.png import load_png, read_text
from engine.run_logger import RunLogger
from engine.runs import sample_grids, sample_path, step_of
from images.tiles import tile

FACES = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), np.uint8)


def record(run: Path, after: int, until: int, *, close: bool = True) -> None:
    """A sitting from one step to another: a line every step, a grid every second."""
    logger = RunLogger(run, after)
    for step in range(after + 1, until + 1):
        logger.log_scalars(step, {"loss/generator": step / 8, "speed/images_per_second": 100.0})
        if step % 2 == 0:
            logger.log_samples(step, tile(FACES, 8), seed=0)
            logger.log_histograms(step, {"generator": nn.Linear(2, 3)})
    logger.flush()
    if close:
        logger.close()


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), {"scalars": 0, "images": 0, "histograms": 0}).Reload()


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def assert_each_step_once(run: Path, last: int) -> None:
    every, second = list(range(1, last + 1)), list(range(2, last + 1, 2))
    assert [line["step"] for line in lines(run)] == every
    assert [line["loss/generator"] for line in lines(run)] == [step / 8 for step in every]
    board = events(run)
    points = board.Scalars("loss/generator")
    # Sorted, because files of one second are read in the order of their numbers as words: 10 before 9.
    assert sorted((point.step, point.value) for point in points) == [(step, step / 8) for step in every]
    assert sorted(image.step for image in board.Images("samples")) == second
    assert sorted(histogram.step for histogram in board.Histograms("generator/weight")) == second
    assert [step_of(path) for path in sample_grids(run)] == second


def test_tensorboard_reads_what_metrics_jsonl_says(tmp_path):
    record(tmp_path, 0, 5)
    assert_each_step_once(tmp_path, 5)
    assert set(events(tmp_path).Tags()["scalars"]) == {"loss/generator", "speed/images_per_second"}
    assert lines(tmp_path)[0] == {"step": 1, "loss/generator": 0.125, "speed/images_per_second": 100.0}


def test_a_line_is_there_at_once(tmp_path):
    logger = RunLogger(tmp_path, 0)
    logger.log_scalars(1, {"loss": 1.0})
    assert lines(tmp_path) == [{"step": 1, "loss": 1.0}]
    logger.close()


def test_before_a_save_all_is_on_disk(tmp_path):
    record(tmp_path, 0, 30, close=False)
    assert_each_step_once(tmp_path, 30)


def test_grids(tmp_path):
    logger = RunLogger(tmp_path, 0)
    logger.log_samples(40, tile(FACES, 8), seed=7)
    logger.log_real_images(tile(FACES, 8))
    logger.close()
    assert np.array_equal(load_png(sample_path(tmp_path, 40)), tile(FACES, 8))
    assert read_text(sample_path(tmp_path, 40)) == {"run": tmp_path.name, "step": "40", "seed": "7"}
    assert np.array_equal(load_png(tmp_path / "real.png"), tile(FACES, 8))
    board = events(tmp_path)
    assert sorted(board.Tags()["images"]) == ["real", "samples"]


def test_histograms_are_of_every_weight(tmp_path):
    logger = RunLogger(tmp_path, 0)
    layer = nn.Linear(3, 1)
    nn.init.constant_(layer.weight, 2.0)
    logger.log_histograms(0, {"discriminator": nn.Sequential(layer, nn.BatchNorm1d(1))})
    logger.close()
    names = ("0.weight", "0.bias", "1.weight", "1.bias")
    assert set(events(tmp_path).Tags()["histograms"]) == {f"discriminator/{name}" for name in names}
    (point,) = events(tmp_path).Histograms("discriminator/0.weight")
    histogram = point.histogram_value
    assert (histogram.num, histogram.min, histogram.max) == (3, 2, 2)
    assert torch.equal(layer.weight, torch.full((1, 3), 2.0))


@pytest.mark.parametrize("step", [0, 1, 4, 5, 6])
def test_going_on_cuts_what_came_after(tmp_path, step):
    record(tmp_path, 0, 6)
    record(tmp_path, step, 9)
    assert_each_step_once(tmp_path, 9)


def test_a_run_may_be_cut_again_and_again(tmp_path):
    record(tmp_path, 0, 6)
    record(tmp_path, 4, 8)
    record(tmp_path, 2, 5)
    record(tmp_path, 5, 12)
    assert_each_step_once(tmp_path, 12)
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 4


def test_the_cut_is_there_before_the_next_point_is_written(tmp_path):
    record(tmp_path, 0, 6)
    RunLogger(tmp_path, 4).close()
    assert_each_step_once(tmp_path, 4)


@pytest.mark.parametrize("lost", [1, 9, 40, 400])
def test_files_cut_short_by_a_kill_are_gone_on_with(tmp_path, lost):
    record(tmp_path, 0, 8)
    for path in (tmp_path / "metrics.jsonl", *tmp_path.glob("events.out.tfevents.*")):
        path.write_bytes(path.read_bytes()[:-lost])
    record(tmp_path, 2, 6)
    assert_each_step_once(tmp_path, 6)


@pytest.mark.parametrize("rest", [b"\x00" * 40, b"\xff\xfe\x80", b"17\n", b"[]\n", b'{"no": 1}\n', b"\n"])
def test_what_is_no_line_of_the_log_goes(tmp_path, rest):
    record(tmp_path, 0, 3)
    for path in (tmp_path / "metrics.jsonl", *tmp_path.glob("events.out.tfevents.*")):
        path.write_bytes(path.read_bytes() + rest)
    record(tmp_path, 3, 5)
    assert_each_step_once(tmp_path, 5)


def test_what_a_kill_left_half_written_goes(tmp_path):
    record(tmp_path, 0, 4)
    (board,) = tmp_path.glob("events.out.tfevents.*")
    for path in (tmp_path / "config.json", tmp_path / "metrics.jsonl", board, sample_path(tmp_path, 4)):
        path.with_name(f".{path.stem}-0123456789ab{path.suffix}").write_text("half")
    RunLogger(tmp_path, 4).close()
    assert not [*tmp_path.rglob(".*")]


def test_what_others_keep_in_the_run_folder_stays(tmp_path):
    record(tmp_path, 0, 6)
    mine = [tmp_path / "samples" / name for name in ("step_000004_best.png", "notes.txt")]
    for path in mine:
        path.write_text("mine")
    record(tmp_path, 2, 3)
    assert all(path.read_text() == "mine" for path in mine)
