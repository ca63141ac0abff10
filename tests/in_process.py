"""Calling a script of the project in this process, where torch is loaded already."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
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
def after_steps(learner: type, steps: Collection[int], what: Callable[[], object]) -> Iterator[None]:
    """In this block something happens to learners of a class right after these steps."""
    whole = learner.step

    def disturbed(self: Any) -> None:
        whole(self)
        if self.step_count in steps:
            what()

    with mock.patch.object(learner, "step", disturbed):
        yield


def dying(learner: type, step: int) -> contextlib.AbstractContextManager[None]:
    """In this block learners of a class end the process after this step, as a kill does."""
    return after_steps(learner, {step}, partial(sys.exit, 1))
