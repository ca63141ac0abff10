"""prepare.json: a folder's rules, what was excluded and rejected, and whether the folder is finished."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.files import atomic_write, sha256_of
from engine.runs import find_checkpoint
from faces.preparation.manifest import FACES, REJECTED, Manifest, Row
from faces.preparation.options import PrepareArguments

FORMAT = 1
"""Increase when the same arguments give different crops, so that no folder mixes the two."""

STATE = "prepare.json"
"""File with the rules of the folder, and whether it is finished."""

RENAMED = {
    "least_score": "min_score",
    "least_support": "min_support",
    "smallest": "min_side",
    "most_turned": "max_turn",
    "most_outside": "max_outside",
}
"""Rules as folders of earlier versions name them, and their present names."""

RowsByCrop = dict[tuple[str | None, str], Row]
"""Rows by the crop's name in its folder of crops, and its hash."""


def crops_folder(out: Path) -> Path | None:
    """The folder of crops in an output folder of prepare_faces.py, None for any other folder."""
    return out / FACES if (out / STATE).is_file() else None


def _flag(name: str, value: Any) -> str:
    """A rule as on the command line."""
    option = f"--{name.replace('_', '-')}"
    if name in ("photos", "format"):
        return f"{name} {value}"
    if isinstance(value, bool):
        return option if value else option.replace("--", "--no-", 1)
    return f"no {option}" if value is None else f"{option} {value}"


def check_rules(arguments: PrepareArguments) -> dict[str, str]:
    """Reject a folder of other files or of faces made by other rules; return the digests to record."""
    out, digests = arguments.out, _digests(arguments)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the faces")
    if not out.exists() or not any(not path.name.startswith(".") for path in out.iterdir()):
        return digests
    state = read_state(out)
    recorded = state.get("rules")
    if not isinstance(recorded, dict):
        raise UserError(f"{out} contains other files than prepared faces; name a new or empty folder")
    rules = _rules(arguments)
    for name in [*rules, *recorded]:
        if name == "min_support" and name not in recorded:
            continue  # in a folder of an earlier version, it applies to new photos
        if recorded.get(name) != rules.get(name):
            before, now = _flag(name, recorded.get(name)), _flag(name, rules.get(name))
            raise UserError(
                f"{out} was started with {before}, not {now}: choose another folder, or delete this one "
                "to start again"
            )
    known = state.get("digests", {})  # old folders have none and are trusted
    for name, digest in digests.items():
        if known.get(name, digest) != digest:
            raise UserError(
                f"{out} was started with another --{name}: {rules[name]} has changed since. Choose another "
                "folder, or delete this one to start again"
            )
    return known | digests


def _digests(arguments: PrepareArguments) -> dict[str, str]:
    """Digests of the networks' files, except missing ones."""
    landmarks = arguments.landmarks
    if landmarks is not None and landmarks.is_dir():
        landmarks = find_checkpoint(landmarks, None)
    files = {"landmarks": landmarks, "detector": arguments.detector}
    digests = {name: sha256_of(file) for name, file in files.items() if file is not None}
    return {name: digest for name, digest in digests.items() if digest}


def _rules(arguments: PrepareArguments) -> dict[str, Any]:
    return {"format": FORMAT, **arguments.rules()}


def write_state(
    arguments: PrepareArguments,
    digests: dict[str, str],
    manifest: Manifest,
    rejected: RowsByCrop,
    *,
    finished: bool,
) -> None:
    """Write prepare.json.

    Args:
        arguments: with the rules.
        digests: of the networks' files.
        manifest: with the number of the next new crop.
        rejected: rows of the rejected crops, also of those whose photo is excluded.
        finished: whether all photos have been processed.
    """
    state = {"finished": finished, "rules": _rules(arguments), "digests": digests}
    state |= {"exclude": [*(arguments.exclude or ())], "next_number": manifest.next_number}
    columns = ("file", "hash", "number")
    state["rejected"] = [{name: getattr(row, name) for name in columns} for row in rejected.values()]
    with atomic_write(arguments.out / STATE) as path:
        path.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def recorded_patterns(out: Path) -> tuple[str, ...]:
    """The patterns that the last call excluded."""
    recorded = read_state(out).get("exclude", [])
    return tuple(map(str, recorded)) if isinstance(recorded, list) else ()


def recorded_number(out: Path) -> int:
    """The number of the next new crop; 1 if an earlier version has recorded none."""
    number = read_state(out).get("next_number")
    return number if isinstance(number, int) else 1


def recorded_rejections(out: Path) -> RowsByCrop:
    """The crops rejected by the user, with file, hash and number only."""
    recorded = read_state(out).get("rejected")
    rows = [row for row in recorded if isinstance(row, dict)] if isinstance(recorded, list) else []
    return by_crop(
        Row(
            "", "0", verdict=REJECTED, **{name: str(row.get(name, "")) for name in ("file", "hash", "number")}
        )
        for row in rows
    )


def by_crop(rows: Iterable[Row]) -> RowsByCrop:
    """The rows by the crop's name and hash."""
    return {(row.crop_name, row.hash): row for row in rows}


def rejected_only(rows: RowsByCrop) -> RowsByCrop:
    """Those of the rows whose crop was rejected by the user."""
    return {crop: row for crop, row in rows.items() if row.verdict == REJECTED}


def read_state(out: Path) -> dict[str, Any]:
    """What prepare.json contains; nothing if it is missing or damaged."""
    try:
        state = json.loads((out / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(state, dict):
        return {}
    if isinstance(rules := state.get("rules"), dict):
        state["rules"] = {RENAMED.get(name, name): value for name, value in rules.items()}
    return state
