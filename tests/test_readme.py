"""Commands, code and links in README.md and docs/, and the page of settings."""

import importlib
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import tyro

from docs.settings import PAGE, settings_page
from engine.png import load_png
from faces.drawn.folder import FACES, PEOPLE
from tests.in_process import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DATA = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    .*?(?:python|uv run) (\w+)\.py(.*)$", README, re.MULTILINE)
PAGES = [path for folder in ("", "docs", "data", "outputs") for path in (ROOT / folder).glob("*.md")]
SCRIPTS = {path.stem for path in ROOT.glob("*.py")} - {"face_lab"}


class ParsedError(Exception):
    """The arguments were accepted."""


@pytest.mark.parametrize(("script", "arguments"), COMMANDS)
def test_commands_are_accepted(script, arguments, monkeypatch, tmp_path):
    parse = tyro.cli

    def parse_and_stop(*args: object, **kwargs: object) -> None:
        parse(*args, **kwargs)
        raise ParsedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tyro, "cli", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *shlex.split(arguments, comments=True)])
    with pytest.raises(ParsedError):
        importlib.import_module(script).main()


def test_there_is_a_command_for_every_script():
    commands = {script for script, _ in COMMANDS}
    assert commands == SCRIPTS


def test_the_python_example_runs(tiny_run, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (run,) = re.findall(r'load_generator\("(.*?)"\)', code)
    shutil.copytree(tiny_run, tmp_path / run)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert names["z"].shape == (64, 100)
    assert names["images"].shape == (16, 3, 32, 32)
    assert load_png(Path("faces.png")).shape == (3, 2 * 34 - 2, 8 * 34 - 2)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'\]\(([^)#]+)|src="([^"]+)"', text)
    missing = [link for link in map("".join, links) if not (page.parent / link).exists()]
    assert not missing


def test_every_picture_is_shown():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [path.name for path in ROOT.glob("docs/**/*.png") if path.name not in text]


def test_the_page_of_settings_is_current():
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "run: python docs/settings.py"


def test_drawn_folders_are_described_among_the_data():
    for folder in (FACES, PEOPLE):
        assert f"- `{folder.name}/`: " in DATA
        assert f"`{folder.name}/`" in DATA.partition("safe to delete")[0].rpartition("\n\n")[2]
