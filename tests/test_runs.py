"""runs.py, on folders as users have them: runs of all kinds, damaged ones, and other things."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from engine.best import SMOOTHED
from engine.lock import LOCK
from engine.runs import checkpoint_path
from faces.landmarks.settings import TASK_NAME as LANDMARKS
from faces.landmarks.trainer import LandmarkTrainer
from faces.recognition.settings import TASK_NAME as CLASSIFIER
from faces.recognition.trainer import ClassifierTrainer
from gan.loop import GanLoop
from gan.trainer import Trainer
from lab.kinds import KINDS
from tests.in_process import call

runs = partial(call, "runs.py")
SCORES = {250: 9.0, 500: 3.0, 750: 4.0, 1000: 30.0}  # means of three: 9, 6, 5.33, 12.3


def make_run(
    folder: Path,
    *,
    steps: int | None = 7000,
    minutes: float | None = None,
    saved: int = 1000,
    **config: object,
) -> Path:
    folder.mkdir(parents=True)
    settings = {"steps": steps, "minutes": minutes}
    values = {"settings": settings, "data": {"images": 10_800}, "environment": {}, **config}
    (folder / "config.json").write_text(json.dumps(values))
    metric = KINDS[config.get("kind", "gan")].metric
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in range(10, 250, 10)]
    lines += [json.dumps({"step": step, metric: score}) for step, score in SCORES.items()]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 17')
    if saved:
        checkpoint = checkpoint_path(folder, saved)
        checkpoint.parent.mkdir()
        checkpoint.write_bytes(bytes(3_000_000))
    return folder


def rows(*arguments: object) -> dict[str, list[str]]:
    """The cells of each run's row, and everything else by its first word."""
    result = runs(*arguments)
    assert (result.code, result.error) == (0, "")
    cells = ([cell for cell in line.strip().split("  ") if cell.strip()] for line in result.lines)
    return {first: [cell.strip() for cell in rest] for first, *rest in cells}


def test_runs_of_all_kinds_are_listed_with_images_steps_score_size_and_state(tmp_path):
    make_run(tmp_path / "0002-faces-96px")
    make_run(tmp_path / "0010-later-96px", steps=1000)
    make_run(tmp_path / "landmarks" / "0001-eyes-64px", kind=LANDMARKS)
    make_run(tmp_path / "classifiers" / "0001-people-64px", kind=CLASSIFIER)
    result = rows("--output", tmp_path)
    size = "3 MB"
    assert result["0002-faces-96px"] == [
        *("10,800", "1,000 of 7,000", "KID 5.33 at step 750", size, "interrupted")
    ]
    assert result["0010-later-96px"] == ["10,800", "1,000", "KID 5.33 at step 750", size, "ended"]
    assert result["0001-eyes-64px"][2] == "NME 3 at step 500"
    assert result["0001-people-64px"][2] == "error 3 at step 500"
    names = [name for name in result if name[0].isdigit()]
    assert names[:2] == ["0002-faces-96px", "0010-later-96px"]  # the newest last
    assert str(tmp_path / "landmarks") in result


@pytest.mark.parametrize(
    ("changes", "event", "state"),
    [
        ({}, "", "interrupted"),
        ({"steps": 1000}, "", "ended"),
        ({"saved": 0}, "", "interrupted, has no checkpoint"),
        ({"steps": None, "minutes": 15.0}, "", "ended"),
        ({"steps": None, "minutes": 15.0}, "step 1000: interrupted by SIGINT\n", "interrupted"),
        ({"steps": None, "minutes": 15.0}, "step 500: interrupted by SIGINT\n", "ended"),
        ({"steps": None, "minutes": 15.0, "saved": 500}, "", "interrupted"),  # killed
        ({}, "step 900: alarm\nstep 900: stopped: again after 3 rollbacks\n", "gave up, see events.txt"),
    ],
)
def test_the_state_of_a_run_that_is_not_running(tmp_path, changes, event, state):
    run = make_run(tmp_path / "0001-faces-96px", **changes)
    if event:
        (run / "events.txt").write_text(event)
    assert rows("--output", tmp_path)[run.name][-1] == state


def test_a_run_in_use_is_running(tmp_path):
    run = make_run(tmp_path / "0001-faces-96px")
    with FileLock(run / LOCK):
        assert rows("--output", tmp_path)[run.name][-1] == "running"
    assert rows("--output", tmp_path)[run.name][-1] == "interrupted"


def test_damaged_and_foreign_folders_are_named(tmp_path):
    make_run(tmp_path / "0001-faces-96px")
    no_images = '{"settings": {"steps": "x"}, "data": {}}'
    contents = ["", "{", "[]", '{"settings": {}, "data": 3}', "[" * 100_000, no_images]
    for number, content in enumerate(contents, start=2):
        run = make_run(tmp_path / f"{number:04d}-damaged-96px")
        (run / "config.json").write_text(content)
    (make_run(tmp_path / "0011-metrics-96px") / "metrics.jsonl").write_text('{"step": "no"}\n')
    (tmp_path / "0012-empty-96px").mkdir()
    (tmp_path / "0013-a file").touch()
    (tmp_path / "holiday").mkdir()
    (tmp_path / "README.md").touch()
    result = rows("--output", tmp_path)
    states = [cells[-1] for name, cells in result.items() if name.startswith("00") and len(cells) == 2]
    assert states == [
        *6 * ["not a run: config.json is damaged"],
        "not a run: no config.json",
    ]
    assert result["0011-metrics-96px"] == [
        "10,800",
        "1,000 of 7,000",
        "3 MB",
        "interrupted, metrics.jsonl is damaged",
    ]
    assert "not runs: 0013-a file, holiday" in result
    assert result["0001-faces-96px"][-1] == "interrupted"


def test_runs_of_this_version_and_of_a_friend_are_listed(tiny_run, tmp_path):
    assert rows("--output", tiny_run.parent)[tiny_run.name] == ["24", "6", "3 MB", "ended"]
    sent = tmp_path / tiny_run.name
    (sent / "checkpoints").mkdir(parents=True)
    shutil.copy(tiny_run / "config.json", sent)
    shutil.copy(tiny_run / "checkpoints" / "step_000006.pt", sent / "checkpoints" / "best.pt")
    assert rows("--output", tmp_path)[sent.name][-1] == "interrupted"


def test_without_runs_a_line_says_how_to_make_one(tmp_path):
    for output in (tmp_path, tmp_path / "missing"):
        result = runs("--output", output)
        assert result.code == 0
        assert result.lines == [f"there is no run in {output}; `python train_gan.py FOLDER` creates one"]


def test_the_kinds_are_those_of_the_trainers():
    trained = {
        "gan": (Trainer.ranked_by, GanLoop.score_label, SMOOTHED),
        LANDMARKS: (LandmarkTrainer.ranked_by, LandmarkTrainer.score_label, 1),
        CLASSIFIER: (ClassifierTrainer.ranked_by, ClassifierTrainer.score_label, 1),
    }
    assert {name: (kind.metric, kind.label, kind.smoothed) for name, kind in KINDS.items()} == trained
