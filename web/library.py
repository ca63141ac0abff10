"""The runs that the pages may show, and their files. No name in a request becomes a path by itself.

Nothing here imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Container
from itertools import chain, count
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from engine.errors import UserError
from engine.runs import DEFAULT_KIND, runs_in


class Library:
    """Finds runs by the names that `names` lists.

    Args:
        output: folder of runs, also in its sub-folders, such as classifiers/.
        given: a run, in any folder, that is listed too.
    """

    def __init__(self, output: Path, given: Path | None = None) -> None:
        self._output = output
        self._given = given

    def names(self) -> dict[str, Path]:
        """Folders by name, such as 0007-faces-96px or classifiers/0001-people-96px, the newest first."""
        found: dict[str, Path] = {}
        for folder in (self._output, *self._folders()):
            for run in reversed(_runs_in(folder)):
                found[run.relative_to(self._output).as_posix()] = run
        given = self._resolved_given()
        if given is not None and not any(run.resolve() == given for run in found.values()):
            found[_unused(given.name, found)] = given
        return found

    def name_of_given(self) -> str | None:
        """The name of the run that was given on the command line."""
        given = self._resolved_given()
        return next((name for name, run in self.names().items() if run.resolve() == given), None)

    def find(self, name: str) -> Path:
        """The folder of a run. Raises `HTTPException` 404 if there is none of this name."""
        run = self.names().get(name)
        if run is None:
            raise HTTPException(404, "there is no such run")
        return run

    def _resolved_given(self) -> Path | None:
        """The folder of the given run; None if there is none, or it was removed."""
        return self._given.resolve() if self._given is not None and self._given.is_dir() else None

    def _folders(self) -> list[Path]:
        try:
            return sorted(
                path for path in self._output.iterdir() if path.is_dir() and not path.name.startswith(".")
            )
        except OSError:
            return []


def _runs_in(folder: Path) -> list[Path]:
    try:
        return runs_in(folder)
    except UserError:
        return []


def _unused(name: str, names: Container[str]) -> str:
    candidates = chain([name], (f"{name} ({number})" for number in count(2)))
    return next(candidate for candidate in candidates if candidate not in names)


def read_config(run: Path) -> dict[str, Any]:
    """config.json with the keys kind, settings, data and environment, each present; empty if damaged."""
    try:
        values = json.loads((run / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        values = {}
    values = values if isinstance(values, dict) else {}
    parts = {name: values.get(name) for name in ("settings", "data", "environment")}
    config: dict[str, Any] = {name: part if isinstance(part, dict) else {} for name, part in parts.items()}
    return {"kind": str(values.get("kind", DEFAULT_KIND)), **config}


def read_file(run: Path, path: Path) -> bytes:
    """The bytes of a run's file.

    Raises:
        HTTPException: 404 if it does not exist, cannot be read, or is a link out of the run's folder.
    """
    try:
        if not path.resolve().is_relative_to(run.resolve()):
            raise HTTPException(404, "there is no such file in the run")
        return path.read_bytes()
    except OSError:
        raise HTTPException(404, "there is no such file in the run") from None
