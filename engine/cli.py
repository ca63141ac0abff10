"""Command lines made from dataclasses: each field is a flag, and the string below it is the flag's help.

Nothing here imports torch, so --help and most mistakes are answered at once.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Annotated, Any, TextIO, TypeVar

import tyro
from tyro.conf import arg

from engine.errors import UserError
from engine.flags import GroupedOptions, group, registry
from engine.runs import NEWEST
from engine.settings import AnySettings

Options = TypeVar("Options")

OTHER_NAMES = (
    (
        "epoch epochs nepochs numepochs niter",
        "steps batch_size",
        "--steps; an epoch is as many steps as there are images, divided by --batch-size",
    ),
    ("bs bsize", "batch_size", "--batch-size"),
    ("lr lrg lrd", "learning_rate", "--learning-rate"),
    ("nz zdim latentdim", "latent_size", "--latent-size"),
    ("res resolution imsize imgsize", "image_size", "--image-size"),
    ("data dataroot datadir datapath dataset folder", "folder", "the folder without a flag"),
    ("cuda gpu gpus ngpu gpuids", "device", "--device cuda"),
    ("outf outdir savedir", "output", "--output"),
    ("shrink", "scale", "--scale, such as --scale 0.5 for half the size"),
    ("manualseed randomseed", "seed", "--seed"),
    ("leastscore", "min_score", "--min-score"),
    ("leastsupport", "min_support", "--min-support"),
    ("smallest", "min_side", "--min-side"),
    ("mostturned", "max_turn", "--max-turn"),
    ("mostoutside", "max_outside", "--max-outside"),
)
"""Flags of other projects and earlier versions, in lower case without hyphens; the fields of the scripts that
explain them; and what to use."""

_REWORDED = (
    (r"Unrecognized options: ([^-].*)", r"unexpected argument \1"),
    (r"Error parsing (\S+): ('.*') is not (.+)", r"\1 must be \3, not \2"),
    (r"Missing value for argument '(\S+)'\. Expected 1 values", r"\1 needs a value"),
    (r"Missing value for argument '(\S+)'\. Expected (\d+) values", r"\1 needs \2 values"),
    (r"invalid choice (.+) for argument '(\S+)'\. Expected one of \((.+)\)", r"\2 must be one of \3, not \1"),
    (r"Expected one of {(.+)}", r"give a command: \1"),
)
"""Messages of tyro, and clearer ones."""
_BOX_DRAWING = "╭╮╰╯│─ "
_NEGATIVE = re.compile(r"-[0-9.]+")


def parse(
    options: type[Options],
    arguments: Sequence[str] | None = None,
    *,
    default: Options | None = None,
    description: str | None = None,
    epilog: str = "",
) -> Options:
    """Parse a command line into an instance of the dataclass `options`.

    Args:
        options: dataclass whose fields are the flags, in groups if it has `GROUPS` (see
            `engine.settings.field_groups`), or a union of dataclasses, annotated as sub-commands.
        arguments: the command line; that of this process if None.
        default: instance with the defaults; those of the dataclass if None.
        description: what the script does, for --help; the dataclass's docstring if None.
        epilog: printed below the flags by --help, in paragraphs.

    Raises:
        UserError: the arguments are invalid; the message is the first problem, in one line.
        SystemExit: with code 0, after --help was printed.
    """
    grouped = group(options, default)
    arguments = _join_repeated(sys.argv[1:] if arguments is None else arguments, grouped.several)
    if description is not None:
        description = _join_lines(description)
    error, output = io.StringIO(), _Captured(sys.stdout)
    try:
        # tyro reports mistakes in a framed paragraph; this project reports them in one line.
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(output):
            parsed = tyro.cli(grouped.type, args=arguments, description=description, registry=registry)
    except SystemExit as stop:
        if stop.code in (0, None):
            print(_wrap(f"{output.getvalue().rstrip()}\n\n{_join_lines(epilog)}").rstrip())
            raise
        # tyro may report a missing value where the mistake is the flag before it.
        mistake = _unknown_words(arguments, grouped, options) or _reworded(
            _first_paragraph(error.getvalue()), grouped
        )
        raise UserError(f"{mistake}; --help lists all flags") from None
    return grouped.options(parsed)


class _Captured(io.StringIO):
    """Captures what tyro prints, which depends on the stream that it will be printed to."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()


def _join_lines(text: str) -> str:
    """Join the lines of each paragraph, except of lists and examples."""
    paragraphs = (paragraph.strip("\n") for paragraph in text.split("\n\n"))
    return "\n\n".join(
        paragraph if re.search(r"^(?: |- )", paragraph, re.MULTILINE) else " ".join(paragraph.split())
        for paragraph in paragraphs
    )


def _wrap(text: str) -> str:
    """Break the lines that are wider than the terminal: tyro wraps the flags, but not the description."""
    width = max(shutil.get_terminal_size().columns, 20)
    lines = [
        line
        if len(line) <= width or line[0] in _BOX_DRAWING
        else textwrap.fill(line, width, break_on_hyphens=False)
        for line in text.splitlines()
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _unknown_words(arguments: Sequence[str], grouped: GroupedOptions, options: Any) -> str:
    """Names the sub-command and the flags that do not exist, and those that may be meant."""
    command = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if command and grouped.commands and command not in grouped.commands:
        return f"unknown command {command}{_did_you_mean(command, grouped.commands)}"
    words = (argument.partition("=")[0].replace("_", "-") for argument in arguments)
    names = dict.fromkeys(word for word in words if re.fullmatch("--[A-Za-z][A-Za-z0-9-]*", word))
    unknown = [name for name in names if name not in grouped.flags and name != "--help"]
    return "; ".join(f"unknown option {name}{_meant(name, grouped, options)}" for name in unknown)


def _meant(name: str, grouped: GroupedOptions, options: Any) -> str:
    plain = name.replace("-", "").lower()
    for names, fields_here, flag_here in OTHER_NAMES:
        if plain in names.split() and all(hasattr(options, field) for field in fields_here.split()):
            return f": use {flag_here}"
    return _did_you_mean(name, grouped.flags)


def _did_you_mean(word: str, words: Sequence[str]) -> str:
    close = closest(word, words)
    return f": did you mean {close}?" if close else ""


def closest(word: str, words: Sequence[str]) -> str | None:
    """The word that `word` is the beginning of, or else is most like; None if it is like none of them."""
    beginning_alike = [one for one in words if one.startswith(word)]
    close = beginning_alike or difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.8)
    return close[0] if close else None


def _join_repeated(arguments: Sequence[str], several: Collection[str]) -> list[str]:
    """Write `--exclude A --exclude=B` as `--exclude A B`, after other flags; tyro would take the last only.

    What follows a `--` stays at the end: no flag is read there.

    Args:
        arguments: the command line.
        several: flags that take any number of values.
    """
    kept: list[str] = []
    values: dict[str, list[str]] = {}
    inside: list[str] | None = None  # values of the flag before
    end = [*arguments, "--"].index("--")
    for word in arguments[:end]:
        flag, equals, value = word.partition("=")
        flag = flag.replace("_", "-")
        if flag in several:
            inside = values.setdefault(flag, [])
            inside += [value] if equals else []
            inside = None if equals else inside
        elif inside is not None and (not word.startswith("-") or _NEGATIVE.fullmatch(word)):
            inside.append(word)
        else:
            inside = None
            kept.append(word)
    moved = [word for flag, given in values.items() for word in (flag, *given)]
    return [*kept, *moved, *arguments[end:]]


def _reworded(mistake: str, grouped: GroupedOptions) -> str:
    """A message of tyro in this project's words; unchanged if it is none of `_REWORDED`."""
    if mistake.startswith("Missing from "):  # names of arguments, each with its help
        return f"give {' '.join(re.findall(r'(?:^[^:]*:|[(]required[)]) ([A-Z]+)', mistake))}"
    for pattern, words in _REWORDED:
        if match := re.fullmatch(pattern, mistake):
            order = "; arguments without a flag stand together, before the flags"
            is_misplaced = words.startswith("unexpected") and grouped.has_positional
            return match.expand(words) + order * is_misplaced
    return mistake


def _first_paragraph(framed: str) -> str:
    """The text of tyro's framed message down to its first rule or blank line, in one line."""
    lines: list[str] = []
    for line in framed.splitlines()[1:]:
        text = line.strip(_BOX_DRAWING)
        if text.strip("-"):  # a rule consists of hyphens if the terminal cannot draw boxes
            lines.append(text)
        elif lines:
            break
    return " ".join(lines).strip(" .")


@dataclass(frozen=True)
class RunOptions:
    """How a run starts."""

    resume: Annotated[str | None, arg(metavar="[RUN]")] = None
    """Resume a run (its folder, name or number; without a value, the newest); on a CPU, bit for bit."""
    init_from: Annotated[str | None, arg(metavar="RUN")] = None
    """Start a new run with the networks of another run's best checkpoint (fine-tuning)."""
    force: bool = False
    """Resume even if settings or data that affect the results have changed."""
    dry_run: bool = False
    """Print networks, parameters, memory and data, and stop."""


AnyArguments = TypeVar("AnyArguments", bound=RunOptions)
"""A dataclass of settings that is also a `RunOptions`."""


def parse_arguments(
    arguments: Sequence[str], arguments_type: type[AnyArguments], default: Any = None
) -> AnyArguments:
    """Parse the command line of a training script.

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
