"""What the user of train_gan.py asks for: the settings, and what to do with them.

Nothing here imports torch, so that --help and most mistakes are answered at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, TypeVar

from gan.command import parse
from gan.config import AnySettings, Settings
from gan.errors import UserError

NEWEST = "newest"


@dataclass(frozen=True)
class Beginning:
    """Where a training begins."""

    resume: str | None = None
    """Go on with a run (its folder, name or number; the newest if none is named), bit for bit."""
    init_from: str | None = None
    """Begin a new run with the networks of another one (fine-tuning)."""
    force: bool = False
    """Resume although settings or data changed that alter the mathematics."""
    dry_run: bool = False
    """Print networks, parameters, memory and data, and stop."""


@dataclass(frozen=True)
class Request(Settings, Beginning):
    """Train a DCGAN on a folder of face photos, and watch it learn in outputs/ and TensorBoard.

    Defaults shown are those of the preset `light`, without --plain.
    """

    @property
    def settings(self) -> Settings:
        """The settings alone."""
        return settings_of(self, Settings)


AnyRequest = TypeVar("AnyRequest", bound=Beginning)
"""A class of settings with a `Beginning`."""


def read_request(
    words: Sequence[str], default: Any = None, kind: type[AnyRequest] = Request
) -> AnyRequest:
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
