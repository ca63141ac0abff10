"""README.md tells which file of gan/ stands on which; that is so."""

from __future__ import annotations

import ast
import re
from itertools import takewhile
from pathlib import Path

from tests.conftest import ROOT

FILES = {path.stem: path for path in (ROOT / "gan").glob("*.py") if path.stem != "__init__"}


def layers() -> dict[str, int]:
    """For each name in the picture of gan/ the line it stands in, counted from the top."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    below = lines[lines.index("A file imports only from files below it:") + 3 :]
    picture = takewhile(lambda line: not line or line.startswith("    "), below)
    names = [re.split(r" {3,}", line.strip())[0].split() for line in picture]
    return {name: number for number, row in enumerate(names) for name in row}


def imported(path: Path) -> set[str]:
    """The files of gan/ that this one imports as it is imported itself."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    modules = [statement.module or "" for statement in statements if isinstance(statement, ast.ImportFrom)]
    return {module.split(".")[1] for module in modules if module.startswith("gan.")}


def test_every_file_has_its_place():
    places = layers()
    assert FILES.keys() - places.keys() == set()
    assert places.keys() - FILES.keys() <= {"metrics"}  # a package


def test_a_file_imports_only_from_files_below_it_or_beside_it():
    places = layers()
    upwards = [
        f"{name} imports {other}"
        for name, path in FILES.items()
        for other in sorted(imported(path))
        if places[other] < places[name]
    ]
    assert not upwards
