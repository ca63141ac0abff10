"""What README.md tells a reader to type, and the tables of settings, there and in docs/."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from engine.cli import parse, parse_arguments
from engine.png import load_png
from engine.settings import settings_table
from faces.drawn.folder import FACES, PEOPLE
from faces.landmarks.settings import LandmarkSettings
from faces.recognition.settings import ClassifierSettings
from gan.config import Settings
from tests.in_process import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DATA = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    .*?(?:python|uv run) (\w+)\.py(.*)$", README, re.MULTILINE)


@pytest.mark.parametrize(("script", "words"), COMMANDS)
def test_every_command_fits_its_script(script, words):
    from evaluate import EvaluationArguments
    from faces.landmarks.settings import LandmarkArguments
    from faces.preparation import PrepareArguments
    from faces.recognition.options import Command
    from faces.recognition.settings import ClassifierArguments
    from gan.config import TrainingArguments
    from interpolate import InterpolationArguments
    from plot_run import PlotArguments
    from predict_landmarks import PredictionArguments
    from sample import SampleArguments

    choices = {
        "sample": SampleArguments,
        "interpolate": InterpolationArguments,
        "plot_run": PlotArguments,
        "evaluate": EvaluationArguments,
        "predict_landmarks": PredictionArguments,
        "recognize": Command,
        "prepare_faces": PrepareArguments,
    }
    given = shlex.split(words, comments=True)
    if script == "train_gan":
        parse_arguments(given, TrainingArguments)
    elif script == "train_landmarks":
        parse_arguments(given, LandmarkArguments)
    elif script == "train_classifier":
        parse_arguments(given, ClassifierArguments)
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


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ("README.md", Settings),
        ("docs/landmarks.md", LandmarkSettings),
        ("docs/recognition.md", ClassifierSettings),
    ],
)
def test_the_table_of_settings_is_right(document, kind):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert text.count("<!-- settings -->") == text.count("<!-- /settings -->") == 1
    block = text.split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    assert block.strip() == settings_table(kind), "put in what gan.config.settings_table gives"


def test_what_draws_itself_is_named_among_the_data():
    for folder in (FACES, PEOPLE):
        assert f"- `{folder.name}/`: " in DATA
        assert f"`{folder.name}/`" in DATA.partition("safe to delete")[0].rpartition("\n\n")[2]
