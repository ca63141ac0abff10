"""Run the scripts in this process, where torch is already loaded."""

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


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class ScriptResult(NamedTuple):
    """How a script ended."""

    code: int
    lines: list[str]
    """Standard output."""
    error: str
    """Standard error."""


def call(script: str, *arguments: object) -> ScriptResult:
    """Run a script with these arguments."""
    out, error = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [script, *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as stop:
            return ScriptResult(stop.code, out.getvalue().splitlines(), error.getvalue())
    raise AssertionError(f"{script} did not exit")


def succeed(script: str, *arguments: object) -> ScriptResult:
    """Run a script; fail unless its exit code is 0."""
    result = call(script, *arguments)
    assert result.code == 0, result.error
    return result


def refusal(script: str, *arguments: object) -> str:
    """Run a script and return its one error line; fail unless its exit code is 2."""
    result = call(script, *arguments)
    assert result.code == 2, result
    assert "Traceback" not in result.error
    (line,) = (line for line in result.error.splitlines() if line.startswith("error: "))
    return line


@contextlib.contextmanager
def after_steps(trainer: type, steps: Collection[int], callback: Callable[[], object]) -> Iterator[None]:
    """In this block, call `callback` after these steps of trainers of this class."""
    original = trainer.step

    def step(self: Any) -> None:
        original(self)
        if self.step_count in steps:
            callback()

    with mock.patch.object(trainer, "step", step):
        yield


def dying(trainer: type, step: int) -> contextlib.AbstractContextManager[None]:
    """In this block, exit after this step of trainers of this class, as if killed."""
    return after_steps(trainer, {step}, partial(sys.exit, 1))
