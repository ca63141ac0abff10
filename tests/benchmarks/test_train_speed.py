"""The work that train_speed.py counts for a step, its refusals, and its JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import train_speed
from benchmarks.train_speed import DeviceRates, Measurement, TrainSpeedArguments
from engine.cli import parse
from engine.errors import UserError
from gan.config import Settings

WIDTHS = {"generator_widths": (1, 1, 1, 1), "discriminator_widths": (1, 1, 1, 1)}
LAYERS = (38400, 3200, 800, 200)
"""Operations of the convolution of one 32-px image by each of four layers, one channel wide except the first:
2 * 25 * 3 * 16**2, and so on."""


@pytest.mark.parametrize(
    ("loop", "normalisation", "passes", "first_layer"),
    [
        # Forward on real, fake, and fake again; weights three times; features of all but the first layer,
        # and of all for G's loss: 3 + 3 + 3 passes of which the first layer is spared two.
        ("textbook", "layer", 9, 2),
        ("ours", "batch", 7, 2),
        ("ours", "layer", 6, 1),
    ],
)
def test_the_work_of_a_step_is_counted_layer_by_layer(loop, normalisation, passes, first_layer):
    settings = replace(Settings(), image_size=32, batch_size=2, normalisation=normalisation, pack=1, **WIDTHS)
    image = 3 * sum(LAYERS) + passes * sum(LAYERS) - first_layer * LAYERS[0]
    assert train_speed._gflop_per_step(settings, loop) == pytest.approx(2 * image / 1e9)
    # Of 8 images 2 negatives: forward, weights, features of all but the first layer.
    eight = replace(settings, batch_size=8, negatives=0.25)
    negative = 0 if loop == "textbook" else 3 * sum(LAYERS) - LAYERS[0]
    assert train_speed._gflop_per_step(eight, loop) == pytest.approx((8 * image + 2 * negative) / 1e9)


def test_the_work_of_a_whole_step():
    changes = {"batch_size": 96, "normalisation": "batch", "negatives": 0.0, "pack": 1}
    settings = replace(Settings(), generator_widths=(250, 150, 90, 54), **changes)
    assert train_speed._gflop_per_step(settings, "ours") == pytest.approx(582, rel=0.01)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "0"], "--steps must be 1 or more"),
        (["--times", "0"], "--times must be 1 or more"),
        (["--image-size", "50"], "nearest: 48 or 64"),
        (["--batch-size", "1"], "--batch-size must be 2 or more"),
        (["--presets"], "--presets"),
        (["--presets", "tiny"], "--presets"),
    ],
)
def test_bad_flags_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        parse(TrainSpeedArguments, flags)


def test_json_has_a_row_for_each_loop_with_its_ratio(monkeypatch, capsys):
    """The textbook's step takes 8 seconds here, ours 2."""

    def call_in_subprocess(function, *arguments):
        if function is train_speed._measure_device:
            return DeviceRates(100.0, 50.0), None
        seconds = 8.0 if arguments[0] == "textbook" else 2.0
        return Measurement(seconds, seconds, 1.0, {"rest": 1.0}, 0.0), None

    monkeypatch.setattr(train_speed, "call_in_subprocess", call_in_subprocess)
    monkeypatch.setattr(train_speed, "write_folder", lambda *_: None)
    flags = ["--presets", "evening", "--device", "cpu", "--precisions", "float32", "--json"]
    monkeypatch.setattr("sys.argv", ["train_speed.py", *flags])
    train_speed.main()
    rows = json.loads(capsys.readouterr().out)
    names = ("preset", "device", "precision", "loop", "images_per_second", "ratio")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("evening", "cpu", "float32", "textbook", 6.0, 1.0),
        ("evening", "cpu", "float32", "ours", 24.0, 4.0),
    ]
