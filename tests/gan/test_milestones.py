"""What a run says at its start and end about what is normal by which step."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from engine.best import BestTracker
from gan.config import Settings, preset_settings
from gan.milestones import (
    CLEAR,
    MILESTONES,
    ROUGH,
    conclusion,
    forecast,
    milestone_step,
    preview,
)
from tests.conftest import ROOT

EVENING = replace(preset_settings("evening"), folder="faces", steps=7000)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({}, 2000),
        ({"batch_size": 32}, 2000),
        ({"batch_size": 8}, 8000),
        ({"image_size": 48}, 2000),
        ({"image_size": 192}, 4000),
        ({"learning_rate": 5e-5}, 4000),
        ({"preset": "textbook"}, 3000),
    ],
)
def test_the_steps_depend_on_the_settings(changes, step):
    settings = replace(EVENING, **changes)
    assert milestone_step(CLEAR, settings) == step
    (line,) = preview(settings, 10_000)
    assert f"clear faces at step {step:,}" in line
    assert ("scaled" in line) == (step != 2000)


def test_few_images_are_reported():
    assert "600 images are few" in preview(EVENING, 600)[1]


@pytest.mark.parametrize(
    ("step", "end", "parts"),
    [
        (
            20,
            7000,
            ["0.71 s a step", "rough faces at step 1,000", "clear faces at step 2,000", "end at step 7,000"],
        ),
        (1100, 7000, ["0.71 s a step", "clear faces at step 2,000", "end at step 7,000"]),
        (2000, 7000, ["0.71 s a step", "end at step 7,000"]),
        (20, 400, ["end at step 400", "too early for faces, which is normal", "--steps 2000"]),
        (20, 1100, ["end at step 1,100", "too early for clear faces, which is normal", "--steps 2000"]),
        (20, None, ["rough faces at step 1,000", "clear faces at step 2,000"]),
    ],
)
def test_a_forecast_has_what_is_ahead(step, end, parts):
    line = forecast(replace(EVENING, steps=end), step, end, 0.71)
    assert [part for part in parts if part in line] == parts
    assert ("rough" in line) == (step < 1000)
    assert re.search(r"about \d\d:\d\d", line)


def test_a_forecast_in_minutes_proposes_minutes():
    settings = replace(EVENING, steps=None, minutes=5.0)
    assert "--minutes 80 " in forecast(settings, 10, 150, 2.0)  # 2,000 steps and a fifth
    assert "--minutes 20 " in forecast(settings, 1500, 1650, 2.0)  # a resumed run has a quarter of it left


def test_a_forecast_proposes_steps_where_they_end_the_run():
    settings = replace(EVENING, steps=500, minutes=600.0)
    assert "--steps 2000 " in forecast(settings, 10, 500, 0.7)


def best_at(step: int, score: float) -> BestTracker:
    best = BestTracker()
    best.add(step, score)
    return best


@pytest.mark.parametrize(
    ("step", "best", "parts"),
    [
        (
            400,
            best_at(250, 30.0),
            ["best step: 250, with a KID of 30", "smudges", "normal so early; clear faces usually come by"],
        ),
        (40, best_at(25, 5.0), ["KID of 5 ", "a grey field; that is normal"]),  # whatever the score
        (300, best_at(250, 14.0), ["smudges", "normal so early; clear faces usually come by step 2,000"]),
        (
            7000,
            best_at(6500, 0.08),
            ["best step: 6,500, with a KID of 0.08", "every part in place"],
        ),
        (7000, best_at(6500, 0.07), ["a fifth to a half pass"]),
        (
            5000,
            best_at(4000, 30.0),
            ["smudges", "usually come by step 2,000", "docs/troubleshooting.md"],
        ),
        (
            400,
            BestTracker(),
            ["step 400 usually shows smudges", "normal so early; clear faces usually come by step 2,000"],
        ),
    ],
)
def test_a_conclusion_has_the_score_in_words(step, best, parts):
    line, _ = conclusion(EVENING, Path("outputs/0001-faces-96px"), step, best)
    assert [part for part in parts if part in line] == parts


def test_packs_lower_the_scores_that_mean_the_same():
    best = best_at(2900, 0.31)
    assert "clear faces" in conclusion(EVENING, Path("run"), 3000, best)[0]
    assert "every part in place" in conclusion(replace(EVENING, pack=1), Path("run"), 3000, best)[0]


def test_the_conclusion_of_a_run_from_other_networks_has_no_steps():
    line, _ = conclusion(EVENING, Path("run"), 40, best_at(25, 2.0), fine_tuned=True)
    assert line.endswith("which usually shows rough faces")


@pytest.mark.parametrize(
    ("settings", "step", "more"),
    [
        (EVENING, 7000, " --steps 14000"),
        (replace(EVENING, steps=100), 100, " --steps 2000"),
        (EVENING, 400, ""),
        (replace(EVENING, steps=None, minutes=5.0), 400, ""),
    ],
)
def test_a_conclusion_has_what_to_do_next(settings, step, more):
    line = conclusion(settings, Path("my runs/0001-faces-96px"), step, BestTracker())[1]
    for script in ("sample.py", "evaluate.py"):
        assert f"`python {script} 'my runs/0001-faces-96px'`" in line
    assert f"`python train_gan.py --resume 'my runs/0001-faces-96px'{more}` continues" in line


def test_the_documentation_has_the_same_numbers():
    """So that both are changed together."""
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    number = r"([\d.]+)(?: \(step [\d,]+\))?"
    rows = re.findall(rf"^\| ([\d,]+) \| .* \| {number} \| [\d.]+ \| {number} \|$", text, re.MULTILINE)
    assert [(int(step.replace(",", "")), float(kid), float(without)) for step, kid, without in rows] == [
        (milestone.step, milestone.kid, milestone.kid_without_packs) for milestone in MILESTONES
    ]
    assert ROUGH.step < CLEAR.step
    assert (Settings.image_size, Settings.batch_size) == (96, 48)
