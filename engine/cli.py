"""Command lines made from dataclasses: a field is a flag, the string below it the flag's help.

Nothing here imports torch, so --help and most mistakes are answered at once.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, TypeVar

import tyro

from engine.errors import UserError
from engine.settings import AnySettings

NEWEST = "newest"
Choices = TypeVar("Choices")

_FRAME = "╭╮╰╯│─ "


def parse(
    choices: type[Choices],
    arguments: Sequence[str] | None = None,
    *,
    default: Choices | None = None,
    description: str | None = None,
) -> Choices:
    """The user's choices as an instance of the dataclass `choices`.

    Args:
        choices: dataclass whose fields are the flags.
        arguments: the words of the command line; those of this process if None.
        default: instance whose values stand where the user says nothing.
        description: what the script does, for --help; the dataclass's docstring if None.

    Raises:
        UserError: the words do not fit; the first thing that is wrong, in one line.
        SystemExit: with code 0, after --help was printed.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    told = io.StringIO()
    try:
        # tyro tells mistakes in a framed paragraph; this project tells every mistake in one line.
        with contextlib.redirect_stderr(told):
            if default is None:
                return tyro.cli(choices, args=words, description=description)
            return tyro.cli(choices, args=words, description=description, default=default)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_first_paragraph(told.getvalue())) from None


def _first_paragraph(framed: str) -> str:
    """The text of tyro's framed message down to its first rule or blank line, on one line."""
    lines: list[str] = []
    for line in framed.splitlines()[1:]:
        text = line.strip(_FRAME)
        if text.strip("-"):  # a rule is made of hyphens where the terminal knows no other lines
            lines.append(text)
        elif lines:
            break
    return f"{' '.join(lines).strip(' .')}; --help lists what there is"


@dataclass(frozen=True)
class RunOptions:
    """Where a training begins."""

    resume: str | None = None
    """Go on with a run (its folder, name or number; the newest if none is named), bit for bit."""
    init_from: str | None = None
    """Begin a new run with the networks of another one (fine-tuning)."""
    force: bool = False
    """Resume although settings or data changed that alter the mathematics."""
    dry_run: bool = False
    """Print networks, parameters, memory and data, and stop."""


AnyArguments = TypeVar("AnyArguments", bound=RunOptions)
"""A class of settings with a `RunOptions`."""


def parse_arguments(words: Sequence[str], kind: type[AnyArguments], default: Any = None) -> AnyArguments:
    """Read a command line.

    Args:
        words: of the command line.
        default: settings where the words say nothing; those of `kind` if None.
        kind: of request.

    Raises:
        UserError: words that do not fit.
        SystemExit: with code 0, after --help.
    """
    start = kind(**_values(default, type(default))) if default else kind()
    request = parse(kind, _with_named_run(words), default=start)
    for name, run in (("--resume", request.resume), ("--init-from", request.init_from)):
        if run == "":
            raise UserError(f"{name} is given an empty name of a run")
    if request.resume and request.init_from:
        raise UserError("--resume goes on with a run and --init-from begins a new one: give one of the two")
    return request


def settings_of(request: Any, kind: type[AnySettings]) -> AnySettings:
    """The settings, an instance of `kind`, that are part of a request."""
    return kind(**_values(request, kind))


def _values(settings: Any, kind: type) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(kind)}


def _with_named_run(words: Sequence[str]) -> list[str]:
    """Name the newest run after a --resume that names none."""
    named: list[str] = []
    for word, following in pairwise([*words, "-"]):
        named.append(word)
        if word == "--resume" and following.startswith("-"):
            named.append(NEWEST)
    return named
