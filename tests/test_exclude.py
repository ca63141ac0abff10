"""--exclude of the training scripts: what is left out is reported, and kept when a run is resumed."""

import shutil
from pathlib import Path

import pytest

from engine.cli import parse
from engine.errors import UserError
from evaluate import EvaluationArguments
from faces.landmarks.settings import LandmarkSettings
from faces.preparation.options import PrepareArguments
from faces.recognition.options import Command
from gan.config import TrainingArguments, read_info
from interpolate import InterpolationArguments
from tests.conftest import CLASSIFIER_FLAGS, LANDMARK_FLAGS, copy_some_annotated
from tests.in_process import refusal, succeed
from tests.run_contents import newest_run, read_config

REPORTED = "2 images and 1 folder excluded by --exclude"


@pytest.fixture
def mixed(pictures, tmp_path) -> Path:
    """A folder of 24 images, with two masks and a folder of thumbnails."""
    folder = Path(shutil.copytree(pictures, tmp_path / "mixed"))
    (folder / "thumbs").mkdir()
    for number in (1, 2):
        shutil.copy(folder / "00.png", folder / f"{number}_mask.png")
        shutil.copy(folder / "00.png", folder / "thumbs" / f"{number}.png")
    return folder


def test_excluded_images_are_not_trained_on_also_after_a_resume(mixed, pictures, train, tmp_path, capsys):
    flags = ("--exclude", "*_mask.png", "thumbs/", "nothing")
    assert train(mixed, "--steps", 2, *flags) == 0
    output = capsys.readouterr().out
    assert f"\n{REPORTED}\n--exclude 'nothing' matches no image or folder\n" in output
    run = newest_run()
    assert read_config(run)["data"]["images"] == 24
    assert read_info(run).settings.exclude == ("*_mask.png", "thumbs/", "nothing")
    assert train("--resume", run, "--steps", 3) == 0
    assert REPORTED in capsys.readouterr().out
    with pytest.raises(UserError, match=r"have changed since .*24 images then, 26 now"):
        train("--resume", run, "--steps", 4, "--exclude", "thumbs")
    # The same images elsewhere, where nothing needs to be excluded.
    assert train(pictures, "--resume", run, "--steps", 4, "--exclude") == 0
    assert "excluded" not in capsys.readouterr().out
    assert read_config(run)["settings"]["exclude"] == []


def test_a_run_of_a_version_without_patterns_is_resumed(tiny_run, train, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "outputs" / tiny_run.name))
    text = (run / "config.json").read_text(encoding="utf-8")
    assert '"exclude": [],' in text
    (run / "config.json").write_text(text.replace('"exclude": [],', ""), encoding="utf-8")
    assert train("--resume", run, "--steps", 7) == 0


@pytest.mark.parametrize("script", ["train_gan.py", "train_classifier.py", "train_landmarks.py"])
def test_patterns_before_the_folder_are_an_error(script):
    assert "give FOLDER before it" in refusal(script, "--exclude", "thumbs*", "photos")


def test_repeated_flags_add_patterns():
    words = ["photos", "--exclude", "a", "b", "--steps", "5", "--exclude=c d", "--exclude", "e"]
    arguments = parse(TrainingArguments, words)
    assert (arguments.folder, arguments.steps) == ("photos", 5)
    assert arguments.exclude == ("a", "b", "c d", "e")
    assert parse(LandmarkSettings, ["--exclude=a", "photos"]).folder == "photos"
    ended = parse(LandmarkSettings, ["--exclude", "a", "--exclude", "b", "--", "photos"])
    assert (ended.folder, ended.exclude) == ("photos", ("a", "b"))


def test_repeated_flags_add_numbers():
    words = ["in", "out", "--reject", "58", "--restore=3", "--size=64", "--reject=100", "--restore", "4", "5"]
    arguments = parse(PrepareArguments, [*words, "--reject", "9"])
    assert (arguments.reject, arguments.restore, arguments.size) == ((58, 100, 9), (3, 4, 5), 64)
    assert arguments.exclude is None


def test_repeated_flags_add_values_in_other_scripts():
    words = ["run", "--features", "random", "--device=cpu", "--features", "inception"]
    assert parse(EvaluationArguments, words).features == ("random", "inception")
    words = ["run", "--tiles", "4", "--tiles=-5", "--steps", "9", "--tiles", "-6", "7"]
    assert parse(InterpolationArguments, words).tiles == (4, -5, -6, 7)
    words = ["enroll", "gallery.npz", "name", "image", "image 2", "--exclude", "a", "--exclude", "b"]
    assert parse(Command, words).exclude == ("a", "b")


def test_rows_of_excluded_images_are_left_out(drawn_faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = copy_some_annotated(drawn_faces, 60, tmp_path / "faces")
    names = sorted(path.name for path in folder.glob("*.png"))
    flags = (*LANDMARK_FLAGS, "--dry-run")
    (folder / names[0]).unlink()  # excluded files may be missing
    lines = succeed("train_landmarks.py", folder, *flags, "--exclude", names[0], names[1], "old/").lines
    assert lines[0].startswith("58 faces of ")
    assert lines[1:3] == [
        "2 images excluded by --exclude",
        "--exclude 'old/' matches no image or folder",
    ]
    line = refusal("train_landmarks.py", folder, *flags, "--exclude", "*")
    assert "has a header but no rows that remain: 60 images excluded by --exclude" in line


def test_excluded_folders_are_no_classes(drawn_people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "people"
    for person in sorted(drawn_people.iterdir())[:4]:
        shutil.copytree(person, folder / person.name)
    (folder / "thumbs").mkdir()
    flags = (*CLASSIFIER_FLAGS, "--dry-run")
    assert "the class " in refusal("train_classifier.py", folder, *flags, "--exclude", "person-3/*.png")
    lines = succeed("train_classifier.py", folder, *flags, "--exclude", "person-3", "thumbs", "000.png").lines
    assert lines[0].startswith("39 images of 3 classes from ")
    assert lines[1] == "3 images and 2 folders excluded by --exclude"
