"""Command lines made from dataclasses: a field is a flag, its docstring the flag's help."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import TypeVar

import tyro

from gan.errors import UserError

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
