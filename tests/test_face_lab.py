"""The command face-lab, and the package that it is installed with."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import face_lab as script
from engine.errors import UserError
from tests.in_process import ROOT

SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))


def face_lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("face-lab")
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=False)


def test_every_script_is_in_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["py-modules"] == SCRIPTS


def test_help_lists_every_script_with_a_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = face_lab("--help").stdout.splitlines()[2:]
    names, _, descriptions = zip(*(line.strip().partition("  ") for line in lines), strict=True)
    assert [name.replace("-", "_") for name in names] == [name for name in SCRIPTS if name != "face_lab"]
    assert all(description.strip() for description in descriptions)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("sample", "--help"), 0, "usage: face-lab sample"),
        (("sample", "--count", "0"), 2, "error: --count must be 1"),
        (("draw",), 2, "error: there is no script draw; face-lab --help lists them"),
    ],
)
def test_a_script_runs_with_its_arguments_and_exit_code(arguments, code, text, tmp_path):
    result = face_lab(*arguments)
    assert result.returncode == code
    assert text in result.stdout + result.stderr


def test_without_an_installation_it_says_what_to_do(monkeypatch):
    def distribution(name: str) -> None:
        raise script.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(script.metadata, "distribution", distribution)
    with pytest.raises(UserError, match="not installed: pip install -e"):
        script.find_scripts()
