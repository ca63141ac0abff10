"""Calling a script of the project in this process, where torch is loaded already."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent


class Told(NamedTuple):
    code: int
    lines: list[str]
    """Of standard output."""
    error: str
    """Standard error."""


def call(script: str, *words: object) -> Told:
    """Run a script as its user does, but for the process."""
    out, error = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [script, *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            return Told(end.code, out.getvalue().splitlines(), error.getvalue())
    raise AssertionError(f"{script} did not leave with an exit code")
