"""Command lines made from dataclasses: each field is a flag, and the string below it is the flag's help.

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
from engine.runs import NEWEST
from engine.settings import AnySettings

Options = TypeVar("Options")

_BOX_DRAWING = "╭╮╰╯│─ "


def parse(
    options: type[Options],
    arguments: Sequence[str] | None = None,
    *,
    default: Options | None = None,
    description: str | None = None,
) -> Options:
    """Parse a command line into an instance of the dataclass `options`.

    Args:
        options: dataclass whose fields are the flags.
        arguments: the command line; that of this process if None.
        default: instance with the defaults; those of the dataclass if None.
        description: what the script does, for --help; the dataclass's docstring if None.

    Raises:
        UserError: the arguments are invalid; the message is the first problem, in one line.
        SystemExit: with code 0, after --help was printed.
    """
    arguments = _with_all_patterns(sys.argv[1:] if arguments is None else arguments)
    output = io.StringIO()
    try:
        # tyro reports mistakes in a framed paragraph; this project reports them in one line.
        with contextlib.redirect_stderr(output):
            if default is None:
                return tyro.cli(options, args=arguments, description=description)
            return tyro.cli(options, args=arguments, description=description, default=default)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_first_paragraph(output.getvalue())) from None


def _with_all_patterns(arguments: Sequence[str]) -> list[str]:
    """Write all of `--exclude A --exclude=B` as `--exclude A B`; tyro would take the last only."""
    kept: list[str] = []
    patterns: list[str] = []
    inside = False
    for word in arguments:
        flag, equals, value = word.partition("=")
        if flag == "--exclude":
            patterns += [value] if equals else []
            inside = not equals
        elif inside and not word.startswith("-"):
            patterns.append(word)
        else:
            inside = False
            kept.append(word)
    given = len(kept) < len(arguments)
    return [*kept, "--exclude", *patterns] if given else kept


def _first_paragraph(framed: str) -> str:
    """The text of tyro's framed message down to its first rule or blank line, in one line."""
    lines: list[str] = []
    for line in framed.splitlines()[1:]:
        text = line.strip(_BOX_DRAWING)
        if text.strip("-"):  # a rule consists of hyphens if the terminal cannot draw boxes
            lines.append(text)
        elif lines:
            break
    return f"{' '.join(lines).strip(' .')}; --help lists all flags"


@dataclass(frozen=True)
class RunOptions:
    """How a training starts."""

    resume: str | None = None
    """Resume a run (its folder, name or number; without a value, the newest), bit for bit."""
    init_from: str | None = None
    """Start a new run with the networks of another run's best checkpoint (fine-tuning)."""
    force: bool = False
    """Resume although settings or data that change the mathematics are different."""
    dry_run: bool = False
    """Print networks, parameters, memory and data, and stop."""


AnyArguments = TypeVar("AnyArguments", bound=RunOptions)
"""A dataclass of settings that is also a `RunOptions`."""


def parse_arguments(
    arguments: Sequence[str], arguments_type: type[AnyArguments], default: Any = None
) -> AnyArguments:
    """Parse the command line of a training.

    Args:
        arguments: the command line.
        arguments_type: dataclass whose fields are the flags.
        default: settings with the defaults; those of `arguments_type` if None.

    Raises:
        UserError: the arguments are invalid.
        SystemExit: with code 0, after --help was printed.
    """
    defaults = arguments_type(**_values(default, type(default))) if default else arguments_type()
    parsed = parse(arguments_type, _with_newest_run(arguments), default=defaults)
    for flag, run in (("--resume", parsed.resume), ("--init-from", parsed.init_from)):
        if run == "":
            raise UserError(f"{flag} has an empty value: give a run")
    if parsed.resume and parsed.init_from:
        raise UserError("--resume continues a run and --init-from starts a new one: give only one of them")
    return parsed


def settings_of(arguments: Any, settings_type: type[AnySettings]) -> AnySettings:
    """The settings, an instance of `settings_type`, among parsed arguments."""
    return settings_type(**_values(arguments, settings_type))


def _values(settings: Any, settings_type: type) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(settings_type)}


def _with_newest_run(arguments: Sequence[str]) -> list[str]:
    """Add the value NEWEST to a --resume without a value."""
    complete: list[str] = []
    for argument, following in pairwise([*arguments, "-"]):
        complete.append(argument)
        if argument == "--resume" and following.startswith("-"):
            complete.append(NEWEST)
    return complete
