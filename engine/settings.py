"""Settings as dataclasses: checked, compared, stored as JSON, and listed in a table.

A field is a setting, its default the setting's default, and the string below it the setting's documentation.
The command line, config.json and docs/settings.md are all made from these. Nothing here imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import docstring_parser
import msgspec
from tyro.conf import Positional, arg

from engine.errors import UserError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]
Folder = Annotated[str | None, Positional, arg(metavar="[FOLDER]")]
"""The training data, given without a flag."""
AnySettings = TypeVar("AnySettings")
"""A frozen dataclass in which each field has a default and its documentation below it."""

MAX_WIDTH = 2**16
"""Values in a latent vector, or channels of a layer: weights between more do not fit in memory."""


def changed(old: AnySettings, new: AnySettings, ignored: Collection[str]) -> list[str]:
    """Names of the settings, except the ignored ones, in which two runs differ."""
    return [
        field.name
        for field in fields(old)
        if field.name not in ignored and getattr(old, field.name) != getattr(new, field.name)
    ]


def flag(name: str) -> str:
    """A setting's name as written on the command line."""
    return "--" + name.replace("_", "-")


def to_json(settings: Any) -> dict[str, Any]:
    """The settings as JSON values."""
    return msgspec.to_builtins(settings, enc_hook=str)


def from_json(values: dict[str, Any], settings_type: type[AnySettings]) -> AnySettings:
    """The settings that `to_json` returned, also after a round trip through a file.

    Raises:
        UserError: a value is missing, unknown or of the wrong type.
    """
    names = {field.name for field in fields(settings_type)}
    if odd := values.keys() ^ names:
        raise UserError(
            f"the run's settings do not fit this version, which differs in: {', '.join(sorted(odd))}"
        )
    for name, value in values.items():
        if isinstance(value, str) and "\0" in value:
            raise UserError(f"the run's setting {name} cannot be read: it contains a NUL character")
    try:
        return msgspec.convert(values, settings_type, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).rpartition(" - at `$.")
        raise UserError(f"the run's setting {place.rstrip('`')} cannot be read: {reason}") from None


def settings_table(settings_type: type) -> str:
    """A Markdown table of settings: flag, default, meaning."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    documentation = _documentation(settings_type)
    for field in fields(settings_type):
        name = "FOLDER" if field.name == "folder" else flag(field.name)
        default = field.default
        if isinstance(default, tuple):
            default = " ".join(map(str, default))
        elif isinstance(default, bool):
            default = json.dumps(default)
        shown = "" if default in (None, "") else f"`{default}`"
        rows.append(f"| `{name}` | {shown} | {documentation[field.name]} |")
    return "\n".join(rows)


def at_least(settings: Any, minimum: int, names: str) -> None:
    """Raise `UserError` for the first of these settings, named in one string, that is less or not finite."""
    for name in names.split():
        value = getattr(settings, name)
        if value is not None and not minimum <= value < float("inf"):
            raise UserError(f"{flag(name)} must be {minimum} or more, not {value}")


def _documentation(settings_type: type) -> dict[str, str]:
    """The string below each field on one line, including inherited fields."""
    classes = reversed(settings_type.__mro__[:-1])
    parameters = [
        parameter for one in classes for parameter in docstring_parser.parse_from_object(one).params
    ]
    return {parameter.arg_name: " ".join((parameter.description or "").split()) for parameter in parameters}


def _decode_path(wanted: type, value: Any) -> Any:
    if wanted is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"{value!r} is not a path")
