"""Calling a script of the project in this process, where torch is loaded already."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent


class Told(NamedTuple):
    """What a script told."""

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


def succeed(script: str, *words: object) -> Told:
    """As `call`; fails unless all went well."""
    told = call(script, *words)
    assert told.code == 0, told.error
    return told


def refusal(script: str, *words: object) -> str:
    """The one line in which a script tells a user's mistake; fails unless it ends with that."""
    told = call(script, *words)
    assert told.code == 2, told
    assert "Traceback" not in told.error
    (line,) = (line for line in told.error.splitlines() if line.startswith("error: "))
    return line


@contextlib.contextmanager
def dying(learner: type, step: int) -> Iterator[None]:
    """In this block learners of a class end the process once they have made so many steps, as a kill does."""
    whole = learner.step

    def step_and_die(self: object) -> None:
        whole(self)
        if self.step_count == step:
            raise SystemExit(1)

    with mock.patch.object(learner, "step", step_and_die):
        yield
