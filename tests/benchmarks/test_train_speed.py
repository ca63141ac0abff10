"""The work that train_speed.py takes a step to be, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import train_speed
from benchmarks.train_speed import Measured, Rates, TrainSpeedChoice
from engine.cli import parse
from engine.errors import UserError
from gan.config import base

ONES = {"generator_widths": (1, 1, 1, 1), "discriminator_widths": (1, 1, 1, 1)}
LAYERS = (38400, 3200, 800, 200)
"""Operations of a convolution of one 32-px image by each of four layers, one channel wide but for the first:
2 * 25 * 3 * 16**2, and so on."""


@pytest.mark.parametrize(
    ("way", "changes", "passes", "of_first"),
    [
        # Forward on real, fake, and fake again; weights three times; features of all but the first layer,
        # and of all for G's loss: 3 + 3 + 3 passes of which the first layer is spared two.
        ("textbook", {"updates": "separate"}, 9, 2),
        ("ours", {"updates": "separate"}, 8, 2),
        ("ours", {"updates": "simultaneous", "normalisation": "batch"}, 7, 2),
        ("ours", {"updates": "simultaneous", "normalisation": "layer"}, 6, 1),
    ],
)
def test_the_work_of_a_step_is_counted_layer_by_layer(way, changes, passes, of_first):
    settings = replace(base("light", False), image_size=32, batch_size=2, **ONES, **changes)
    one_image = 3 * sum(LAYERS) + passes * sum(LAYERS) - of_first * LAYERS[0]
    assert train_speed._work(settings, way) == pytest.approx(2 * one_image / 1e9)
    # Of 8 images 2 negatives: forward, weights, features of all but the first layer.
    eight = replace(settings, batch_size=8, negatives=0.25)
    of_negatives = 0 if way == "textbook" else 3 * sum(LAYERS) - LAYERS[0]
    assert train_speed._work(eight, way) == pytest.approx((8 * one_image + 2 * of_negatives) / 1e9)


def test_a_light_step_is_what_an_earlier_count_gave():
    settings = replace(base("light", False), normalisation="batch-but-first", negatives=0.0)
    assert train_speed._work(settings, "ours") == pytest.approx(582, rel=0.01)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "0"], "--steps must be 1 or more"),
        (["--times", "0"], "--times must be 1 or more"),
        (["--image-size", "50"], "nearest: 48 or 64"),
        (["--batch-size", "1"], "--batch-size must be 2 or more"),
        (["--presets"], "--presets"),
        (["--presets", "tiny"], "--presets"),
    ],
)
def test_odd_words_are_a_line(words, told):
    with pytest.raises(UserError, match=told):
        parse(TrainSpeedChoice, words)


def test_json_holds_a_row_for_each_way_with_its_ratio(monkeypatch, capsys):
    """The textbook's step takes 8 seconds here, ours 2."""

    def fresh(task, *arguments):
        if task is train_speed._rates:
            return Rates(100.0, 50.0), None
        seconds = 8.0 if arguments[0] == "textbook" else 2.0
        return Measured(seconds, seconds, 1.0, {"rest": 1.0}, 0.0), None

    monkeypatch.setattr(train_speed, "fresh", fresh)
    monkeypatch.setattr(train_speed, "write_folder", lambda *_: None)
    flags = ["--presets", "light", "--device", "cpu", "--precisions", "float32", "--json"]
    monkeypatch.setattr("sys.argv", ["train_speed.py", *flags])
    train_speed.main()
    rows = json.loads(capsys.readouterr().out)
    names = ("preset", "device", "precision", "updates", "images_per_second", "ratio")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("light", "cpu", "float32", "separate", 12.0, 1.0),
        ("light", "cpu", "float32", "simultaneous", 48.0, 4.0),
        ("light", "cpu", "float32", "separate", 48.0, 4.0),
    ]
