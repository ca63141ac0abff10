"""Settings as dataclasses: checked, compared, stored as JSON, and listed in a table.

A field is a setting, its default the setting's default, and the string below it the setting's documentation.
The command line, config.json and docs/settings.md are all made from these. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import Field, dataclass, fields
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
Patterns = Annotated[tuple[str, ...], arg(metavar="[PATTERN ...]")]
"""Files to leave out; see `images.exclude`."""
AnySettings = TypeVar("AnySettings")
"""A frozen dataclass in which each field has a default and its documentation below it."""
Groups = dict[str, str]
"""Groups of --help in their order: the title of each, and the names of its fields, separated by spaces."""

MAX_WIDTH = 2**16
"""Values in a latent vector, or channels of a layer: weights between more do not fit in memory."""


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of every training script. Each script adds its own and overrides defaults."""

    folder: Folder = None
    """Folder of images. Without one, the script trains on drawn faces."""
    exclude: Patterns = ()
    """Patterns of images and folders to leave out, after the folder: `FOLDER --exclude 'thumbs*' '*_mask.png'
    old/`. A pattern matches names at any depth or, if it contains a slash before its end, paths in the
    folder. The syntax is a subset of .gitignore's: *, ?, [...], **, a slash at the end; no negation."""
    name: str | None = None
    """Name of the run, after its number; by default the folder's name."""
    output: Path = Path("outputs")
    """Folder of runs."""
    cache: Path = Path("data/cache")
    """Folder where decoded images are kept for the next start."""
    steps: int | None = 6000
    """Number of steps of the whole run."""
    minutes: float | None = None
    """Stop this many minutes after the start; --resume continues."""
    batch_size: int = 64
    """Images per step."""
    image_size: int | None = 64
    """Side in pixels of the images that the network is given."""
    held_out: float = 0.3
    """Share of the images that is held out for scoring."""
    seed: int = 0
    """Seed of everything random: weights, order of the images, augmentation."""
    device: Device = "auto"
    """Device to compute on; auto selects CUDA, else Apple's MPS, else the CPU."""
    workers: int | None = None
    """Processes that decode images; 0 for the main process alone, by default one per core."""
    log_every: int = 20
    """Steps between lines in metrics.jsonl and TensorBoard."""
    sample_every: int = 1000
    """Steps between pictures of what the network predicts."""
    score_every: int = 250
    """Steps between scores on the held-out images; the best network is kept."""
    checkpoint_every: int = 500
    """Steps between checkpoints, and between histograms of the weights in TensorBoard."""
    keep: int = 2
    """Number of newest checkpoints to keep."""


def check_training(settings: TrainingSettings) -> None:
    """Raise `UserError` for the first of these settings that is out of range."""
    at_least(settings, 1, "steps keep log_every sample_every score_every checkpoint_every")
    at_least(settings, 0, "seed workers")
    between(settings, 0, float("inf"), "minutes")
    if settings.exclude and settings.folder is None:
        raise UserError("--exclude takes all words after it as patterns: give FOLDER before it")
    if settings.seed >= 2**63:
        raise UserError(f"--seed must be less than 2**63, not {settings.seed}")


def settings_affecting_results(settings: Any, resumable: Collection[str]) -> dict[str, Any]:
    """The settings, by name, that a resumed run may not change."""
    return {name: value for name, value in to_json(settings).items() if name not in resumable}


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


def settings_tables(settings_type: type) -> str:
    """Markdown tables of settings, one for each group of --help: flag, default, meaning."""
    meanings = documentation(settings_type)
    tables = []
    for title, members in field_groups(settings_type).items():
        rows = [f"| {title} options | default | meaning |", "|---|---|---|"]
        for field in members:
            name = "FOLDER" if field.name == "folder" else flag(field.name)
            shown = shown_default(field.default)
            rows.append(f"| `{name}` | {f'`{shown}`' if shown else ''} | {meanings[field.name]} |")
        tables.append("\n".join(rows))
    return "\n\n".join(tables)


def field_groups(options: type) -> dict[str, list[Field]]:
    """The fields of a dataclass by the title of their group, in the order of --help.

    A dataclass that has groups lists them in `GROUPS`. Fields that are in none belong to the last one. Names
    that are not fields of this dataclass may be fields of one that inherits from it.
    """
    by_name = {field.name: field for field in fields(options)}
    groups: Groups = getattr(options, "GROUPS", {"": ""})
    grouped = {
        title: [by_name.pop(name) for name in names.split() if name in by_name]
        for title, names in groups.items()
    }
    grouped[list(groups)[-1]] += by_name.values()
    return grouped


def shown_default(value: Any) -> str:
    """A default as the user would write it; empty if it stands for "none" or "off"."""
    if value is None or value is False:
        return ""
    if value is True:
        return "on"
    if isinstance(value, tuple | list):
        return " ".join(map(shown_default, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def documentation(options: type) -> dict[str, str]:
    """The string below each field of a dataclass on one line, by the field's name, with inherited fields."""
    classes = reversed(options.__mro__[:-1])
    parameters = [
        parameter for one in classes for parameter in docstring_parser.parse_from_object(one).params
    ]
    return {parameter.arg_name: " ".join((parameter.description or "").split()) for parameter in parameters}


def at_least(settings: Any, minimum: int, names: str) -> None:
    """Raise `UserError` for the first of these settings, named in one string, that is less or not finite."""
    for name in names.split():
        value = getattr(settings, name)
        if value is not None and not minimum <= value < float("inf"):
            raise UserError(f"{flag(name)} must be {minimum} or more, not {value}")


def between(settings: Any, low: float, high: float, names: str) -> None:
    """Raise `UserError` for the first of these settings (names in one string) not between two bounds."""
    for name in names.split():
        value = getattr(settings, name)
        if value is not None and not low < value < high:
            bounds = f"more than {low:g}" + (
                " and finite" if high == float("inf") else f" and less than {high:g}"
            )
            raise UserError(f"{flag(name)} must be {bounds}, not {value}")


def _decode_path(wanted: type, value: Any) -> Any:
    if wanted is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"{value!r} is not a path")
