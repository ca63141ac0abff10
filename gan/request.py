"""What the user of train_gan.py asks for: the settings, and what to do with them.

Nothing here imports torch, so that --help and most mistakes are answered at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from gan.command import parse
from gan.config import Settings
from gan.errors import UserError

NEWEST = "newest"


@dataclass(frozen=True)
class Request(Settings):
    """Train a DCGAN on a folder of face photos, and watch it learn in outputs/ and TensorBoard.

    Defaults shown are those of the preset `light`, without --plain.
    """

    resume: str | None = None
    """Go on with a run (its folder, name or number; the newest if none is named), bit for bit."""
    init_from: str | None = None
    """Begin a new run with the networks of another one (fine-tuning)."""
    force: bool = False
    """Resume although settings or data changed that alter the mathematics."""
    dry_run: bool = False
    """Print networks, parameters, memory and data, and stop."""

    @property
    def settings(self) -> Settings:
        """The settings alone."""
        return Settings(**_values(self))


def read_request(words: Sequence[str], default: Settings | None = None) -> Request:
    """Read a command line.

    Args:
        words: of the command line.
        default: settings where the words say nothing.

    Raises:
        UserError: words that do not fit.
        SystemExit: with code 0, after --help.
    """
    start = Request(**_values(default)) if default else Request()
    request = parse(Request, _with_named_run(words), default=start)
    for name, run in (("--resume", request.resume), ("--init-from", request.init_from)):
        if run == "":
            raise UserError(f"{name} is given an empty name of a run")
    if request.resume and request.init_from:
        raise UserError("--resume goes on with a run and --init-from begins a new one: give one of the two")
    return request


def _values(settings: Settings) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(Settings)}


def _with_named_run(words: Sequence[str]) -> list[str]:
    """Name the newest run after a --resume that names none."""
    named: list[str] = []
    for word, following in pairwise([*words, "-"]):
        named.append(word)
        if word == "--resume" and following.startswith("-"):
            named.append(NEWEST)
    return named
