"""--help of every script: at once, in groups, and readable."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from typing import get_args

import pytest

from engine.cli import parse
from engine.settings import flag
from faces.landmarks.settings import LandmarkArguments
from faces.preparation.options import PrepareArguments
from faces.recognition.options import Command
from faces.recognition.settings import ClassifierArguments
from gan.config import TrainingArguments
from tests.conftest import ROOT
from tests.in_process import call

SLOW = {"torch", "torchvision", "torchmetrics", "tensorboard", "matplotlib", "scipy", "cv2", "imageio"}

PROGRAM = """
import contextlib, io, json, runpy, sys
results = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            results[script] = (end.code, "--help" in output.getvalue(), sorted(sys.modules))
print(json.dumps(results))
"""

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
COMMANDS = [get_args(command)[1].name for command in get_args(Command)]
COMMAND_OPTIONS = [get_args(command)[0] for command in get_args(Command)]
PAGES = [(script,) for script in SCRIPTS] + [("recognize.py", command) for command in COMMANDS]


def test_help_imports_no_slow_library():
    command = [sys.executable, "-c", PROGRAM, *SCRIPTS]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    results = json.loads(process.stdout)
    assert sorted(results) == SCRIPTS
    for script, (code, has_help, modules) in results.items():
        assert (script, code, has_help, SLOW & set(modules)) == (script, 0, True, set())


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
@pytest.mark.parametrize("columns", [60, 80, 150])
def test_help_is_readable_at_any_width(page, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, lines, error = call(*page, "--help")
    assert (code, error) == (0, "")
    text = "\n".join(lines)
    assert "None" not in text
    assert not re.search(r"\b(INT|FLOAT|STR)\b", text)
    assert "default: False" not in text
    assert max(map(len, lines)) <= columns


def options_of_scripts() -> list[type]:
    from directions import DirectionArguments
    from edit import EditArguments
    from evaluate import EvaluationArguments
    from explore import ExploreArguments
    from export import ExportArguments
    from interpolate import InterpolationArguments
    from plot_run import PlotArguments
    from predict_landmarks import PredictionArguments
    from sample import SampleArguments

    training = [TrainingArguments, LandmarkArguments, ClassifierArguments]
    others = [SampleArguments, InterpolationArguments, PlotArguments, EvaluationArguments, DirectionArguments]
    others += [ExploreArguments, EditArguments, ExportArguments]
    return [*training, *others, PrepareArguments, PredictionArguments, *COMMAND_OPTIONS]


@pytest.mark.parametrize("options", options_of_scripts(), ids=lambda options: options.__name__)
def test_everyday_flags_come_first_in_help_and_no_group_names_an_unknown_flag(options, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    own = {field.name for field in fields(options)}
    groups = getattr(options, "GROUPS", {})
    names = " ".join(groups.values()).split()
    assert len(names) == len(set(names))
    # The commands of recognize.py share their groups.
    assert set(names) <= own or options in COMMAND_OPTIONS
    groups = {title: members for title, members in groups.items() if own & set(members.split())}
    with pytest.raises(SystemExit):
        parse(options, ["--help"])
    text = capsys.readouterr().out
    titles = [f" {title} options " for title in groups]
    assert [text.index(title) for title in titles] == sorted(text.index(title) for title in titles)
    assert next(iter(groups), "everyday") == "everyday"
    positional = text.partition("positional arguments")[2].partition(" options ")[0]
    parts = re.split("|".join(titles), text)[1:] if groups else []
    for part, members in zip(parts, groups.values(), strict=True):
        for name in set(members.split()) & own:
            assert flag(name) in part or f"{name.upper().rstrip('S')}" in positional, (name, part)
