"""Scripts that use the newest run, if it is still empty or another process is training in it."""

import json
import shutil
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.lock import locked
from engine.newest import find_usable_run, without_checkpoint
from engine.runs import checkpoints, create_run
from tests.in_process import refusal, succeed

USERS = {
    "sample.py": ("sample.py",),
    "interpolate.py": ("interpolate.py",),
    "evaluate.py": ("evaluate.py",),
    "plot_run.py": ("plot_run.py",),
    "--resume": ("train_gan.py", "--resume"),
}


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch) -> Path:
    """A run that can be used, in the outputs folder of the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(tiny_run, Path("outputs", tiny_run.name)))


def start_run(config: Path) -> Path:
    """A newer run, as it is before its first step."""
    newest = create_run(Path("outputs"), "newer", 32)
    shutil.copy(config, newest)
    (newest / "metrics.jsonl").touch()
    return newest


@pytest.mark.parametrize("user", USERS)
def test_an_empty_newest_run_is_named_with_the_one_before_it(run, user):
    start_run(run / "config.json")
    newest = start_run(run / "config.json")
    line = refusal(*USERS[user])
    what = "curves" if user == "plot_run.py" else "checkpoint"
    assert line.startswith(f"error: {newest} has no {what} yet; {run.name} can be used: give its name")
    with locked(newest):
        line = refusal(*USERS[user])
    if user != "plot_run.py":
        assert "has no checkpoint yet, as another process is still training in it; " in line


def test_a_film_needs_two_grids(run):
    newest = start_run(run / "config.json")
    line = refusal("plot_run.py", "--film", "gif")
    assert f"{newest} has 0 sample grids so far, and a film needs 2 or more; {run.name} can be used" in line


def test_resuming_a_run_in_use_names_the_one_before_it(run):
    newest = Path(shutil.copytree(run, run.with_name("0007-newer-32px")))
    with locked(newest):
        line = refusal("train_gan.py", "--resume", "--steps", 7)
        assert line == (
            f"error: {newest} is in use: another process is training in it; {run.name} can be used: give "
            "its name"
        )
        assert "is training in" in refusal("train_gan.py", "--resume", 7, "--steps", 7)
        assert find_usable_run(None, run.parent, "", without_checkpoint) == newest  # it can be sampled
    for path in checkpoints(run):
        path.unlink()
    with locked(newest):
        line = refusal("train_gan.py", "--resume", "--steps", 7)
    assert line.endswith("another process is training in it")


def test_other_kinds_of_runs_resume_alike(run):
    newest = start_run(run / "config.json")
    config = json.loads((run / "config.json").read_text())
    for script, kind in (("train_landmarks.py", "landmarks"), ("train_classifier.py", "classifier")):
        (newest / "config.json").write_text(json.dumps(config | {"kind": kind}))
        assert f"{newest} has no checkpoint yet; {run.name}" in refusal(
            script, "--resume", "--output", "outputs"
        )


def test_a_named_run_is_used_as_it_is(run):
    newest = start_run(run / "config.json")
    assert refusal("sample.py", newest) == f"error: {newest} has no checkpoint yet"
    succeed("sample.py", 1, "--count", 1)
    shutil.rmtree(run)
    with pytest.raises(UserError, match=r"has no checkpoint yet$"):
        find_usable_run(None, Path("outputs"), "", without_checkpoint)
