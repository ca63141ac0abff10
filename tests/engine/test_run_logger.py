import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from engine.errors import UserError
from engine.png import load_png, read_text
from engine.run_logger import RunLogger
from engine.runs import RunInfo, sample_grids, sample_path, step_of
from engine.settings import TrainingSettings
from images.tiles import tile
from tests.run_contents import count_event_file_times

FACES = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), np.uint8)


@pytest.fixture(autouse=True)
def event_file_times(monkeypatch):
    count_event_file_times(monkeypatch)


def log_step(logger: RunLogger, step: int) -> None:
    """A line at every step, a grid and histograms at every second."""
    logger.log_scalars(step, {"loss/generator": step / 8, "speed/images_per_second": 100.0})
    if step % 2 == 0:
        logger.log_samples(step, tile(FACES, 8), seed=0)
        logger.log_histograms(step, {"generator": nn.Linear(2, 3)})


def record(run: Path, resumed_at: int, last: int, *, close: bool = True) -> None:
    """Log the steps after one until another."""
    logger = RunLogger(run, resumed_at)
    for step in range(resumed_at + 1, last + 1):
        log_step(logger, step)
    logger.flush()
    if close:
        logger.close()


def tensorboard(run: Path) -> EventAccumulator:
    """What TensorBoard shows."""
    size_guidance = {"scalars": 0, "images": 0, "histograms": 0}
    return EventAccumulator(str(run), size_guidance, purge_orphaned_data=True).Reload()


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def assert_each_step_once(run: Path, last: int) -> None:
    every, second = list(range(1, last + 1)), list(range(2, last + 1, 2))
    assert [line["step"] for line in lines(run)] == every
    assert [line["loss/generator"] for line in lines(run)] == [step / 8 for step in every]
    shown = tensorboard(run)
    points = shown.Scalars("loss/generator")
    assert [(point.step, point.value) for point in points] == [(step, step / 8) for step in every]
    assert [image.step for image in shown.Images("samples")] == second
    assert [histogram.step for histogram in shown.Histograms("generator/weight")] == second
    assert [step_of(path) for path in sample_grids(run)] == second


def test_tensorboard_and_metrics_jsonl_contain_the_same(tmp_path):
    record(tmp_path, 0, 5)
    assert_each_step_once(tmp_path, 5)
    assert set(tensorboard(tmp_path).Tags()["scalars"]) == {"loss/generator", "speed/images_per_second"}
    assert lines(tmp_path)[0] == {"step": 1, "loss/generator": 0.125, "speed/images_per_second": 100.0}


def test_a_line_is_written_at_once(tmp_path):
    logger = RunLogger(tmp_path, 0)
    logger.log_scalars(1, {"loss": 1.0})
    assert lines(tmp_path) == [{"step": 1, "loss": 1.0}]
    logger.close()


def test_flush_writes_everything(tmp_path):
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
    assert sorted(tensorboard(tmp_path).Tags()["images"]) == ["real", "samples"]


def test_histograms_of_every_weight(tmp_path):
    logger = RunLogger(tmp_path, 0)
    layer = nn.Linear(3, 1)
    nn.init.constant_(layer.weight, 2.0)
    logger.log_histograms(0, {"discriminator": nn.Sequential(layer, nn.BatchNorm1d(1))})
    logger.close()
    names = ("0.weight", "0.bias", "1.weight", "1.bias")
    shown = tensorboard(tmp_path)
    assert set(shown.Tags()["histograms"]) == {f"discriminator/{name}" for name in names}
    (point,) = shown.Histograms("discriminator/0.weight")
    histogram = point.histogram_value
    assert (histogram.num, histogram.min, histogram.max) == (3, 2, 2)
    assert torch.equal(layer.weight, torch.full((1, 3), 2.0))


@pytest.mark.parametrize(
    "parts",
    [
        *([(0, 6), (step, 9)] for step in (0, 1, 4, 5, 6)),
        [(0, 6), (4, 8), (2, 5), (5, 12)],
        [(0, 6), (4, 4)],  # later steps are gone before the next one is logged
    ],
)
def test_resuming_replaces_later_steps(tmp_path, parts):
    for resumed_at, last in parts:
        record(tmp_path, resumed_at, last)
    assert_each_step_once(tmp_path, last)


def test_truncating_replaces_later_steps(tmp_path):
    logger = RunLogger(tmp_path, 0)
    for step in (1, 2, 3, 4, 5, 6):
        log_step(logger, step)
    logger.log_event(6, "alarm")
    logger.truncate(3)
    logger.log_event(3, "recovery")
    for step in (4, 5):
        log_step(logger, step)
    logger.close()
    assert_each_step_once(tmp_path, 5)
    assert (tmp_path / "events.txt").read_text() == "step 6: alarm\nstep 3: recovery\n"


@pytest.mark.parametrize("lost", [1, 9, 40, 400])
def test_resuming_from_truncated_files(tmp_path, lost):
    record(tmp_path, 0, 8)
    for path in (tmp_path / "metrics.jsonl", *tmp_path.glob("events.out.tfevents.*")):
        path.write_bytes(path.read_bytes()[:-lost])
    record(tmp_path, 2, 6)
    assert_each_step_once(tmp_path, 6)


@pytest.mark.parametrize("garbage", [b"\x00" * 40, b"\xff\xfe\x80", b"17\n", b"[]\n", b'{"no": 1}\n', b"\n"])
def test_garbage_at_the_end_is_ignored(tmp_path, garbage):
    record(tmp_path, 0, 3)
    for path in (tmp_path / "metrics.jsonl", *tmp_path.glob("events.out.tfevents.*")):
        path.write_bytes(path.read_bytes() + garbage)
    record(tmp_path, 3, 5)
    assert_each_step_once(tmp_path, 5)


def test_partial_files_are_removed(tmp_path):
    record(tmp_path, 0, 4)
    for path in (tmp_path / "config.json", tmp_path / "metrics.jsonl", sample_path(tmp_path, 4)):
        path.with_name(f".{path.stem}-0123456789ab{path.suffix}").write_text("half")
    RunLogger(tmp_path, 4).close()
    assert not [*tmp_path.rglob(".*")]


def test_the_settings_are_a_table_in_tensorboard(tmp_path):
    settings = TrainingSettings(folder="a|b \udcff", exclude=("old/", "x*"), steps=7, name=None)
    logger = RunLogger(tmp_path, 3)
    logger.log_info(3, RunInfo(settings, {"images": 12}, {"torch": "2.11"}))
    logger.close()
    tensors = tensorboard(tmp_path)
    texts = {
        name: tensors.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("settings", "data", "environment")
    }
    table = texts["settings"].splitlines()
    assert table[:2] == ["| | |", "|---|---|"]
    assert {r"| folder | a\|b \udcff |", "| exclude | old/ x* |", "| steps | 7 |", "| name |  |"} <= {*table}
    assert "| images | 12 |" in texts["data"]
    assert "| torch | 2.11 |" in texts["environment"]


def test_other_files_are_kept(tmp_path):
    record(tmp_path, 0, 6)
    others = [tmp_path / "samples" / name for name in ("step_000004_best.png", "notes.txt")]
    for path in others:
        path.write_text("mine")
    record(tmp_path, 2, 3)
    assert all(path.read_text() == "mine" for path in others)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    logger = RunLogger(tmp_path, 0)
    for name in ("add_scalar", "add_text", "add_image", "add_histogram", "flush"):
        monkeypatch.setattr(logger._tensorboard, name, fail)
    for log in (
        lambda: logger.log_scalars(1, {"loss": 1.0}),
        lambda: logger.log_event(1, "alarm"),
        lambda: logger.log_samples(1, tile(FACES, 8), seed=0),
        lambda: logger.log_real_images(tile(FACES, 8)),
        lambda: logger.log_histograms(1, {"generator": nn.Linear(1, 1)}),
        logger.flush,
    ):
        with pytest.raises(UserError, match=r"No space left on device; its checkpoints are intact$"):
            log()
    monkeypatch.setattr("engine.run_logger.SummaryWriter", fail)
    with pytest.raises(UserError, match="No space left"):
        logger.truncate(0)
