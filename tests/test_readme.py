"""What README.md tells a reader to type."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from gan.choices import RunChoice
from gan.command import parse
from gan.images import load_png
from gan.request import read_request
from tests.in_process import ROOT

sys.path.insert(0, str(ROOT))

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    .*?(?:python|uv run) (\w+)\.py(.*)$", README, re.MULTILINE)


@pytest.mark.parametrize(("script", "words"), COMMANDS)
def test_every_command_fits_its_script(script, words):
    from evaluate import EvaluationChoice
    from faces.landmarks.settings import LandmarkRequest
    from faces.prepare import PrepareChoice
    from faces.recognition.choices import Command
    from faces.recognition.settings import ClassifierRequest
    from interpolate import InterpolationChoice
    from predict_landmarks import PredictionChoice
    from sample import SampleChoice
    from timelapse import TimelapseChoice

    choices = {
        "sample": SampleChoice,
        "interpolate": InterpolationChoice,
        "timelapse": TimelapseChoice,
        "plot_curves": RunChoice,
        "evaluate": EvaluationChoice,
        "predict_landmarks": PredictionChoice,
        "recognize": Command,
        "prepare_faces": PrepareChoice,
    }
    given = shlex.split(words, comments=True)
    if script == "train_gan":
        read_request(given)
    elif script == "train_landmarks":
        read_request(given, kind=LandmarkRequest)
    elif script == "train_classifier":
        read_request(given, kind=ClassifierRequest)
    else:
        parse(choices[script], given)


def test_there_is_a_command_for_every_script():
    scripts = {path.stem for path in ROOT.glob("*.py")}
    assert {script for script, _ in COMMANDS} == scripts


def test_the_lines_of_python_do_what_they_say(tiny_run, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (run,) = re.findall(r'load_generator\("(.*?)"\)', code)
    shutil.copytree(tiny_run, tmp_path / run)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert names["z"].shape == (64, 100)
    assert names["images"].shape == (16, 3, 32, 32)
    assert load_png(Path("faces.png")).shape == (3, 2 * 34 - 2, 8 * 34 - 2)
