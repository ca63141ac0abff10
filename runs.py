"""List the runs: images, steps, best score, size on disk and state; the newest of each kind last."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.best import BestTracker
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.files import is_file
from engine.runs import DEFAULT_KIND, checkpoints, numbered_folders, step_of
from lab.kinds import KINDS, Kind
from lab.run_state import run_state

HEADER = ("run", "images", "steps", "best score", "size", "state")


@dataclass(frozen=True)
class RunsArguments:
    """Where to look."""

    output: Path = Path("outputs")
    """Folder of runs, also in its sub-folders, such as landmarks/ and classifiers/."""


def main() -> None:
    """Parse the command line and print a table for each folder of runs."""
    output = parse(RunsArguments, description=__doc__).output
    folders, others = find_folders(output)
    for folder in folders:
        print_table(str(folder), [HEADER, *map(describe, numbered_folders(folder))])
    if not folders:
        print(f"there is no run in {output}; `python train_gan.py FOLDER` creates one")
    if others:
        print(f"not runs: {', '.join(others)}")


def find_folders(output: Path) -> tuple[list[Path], list[str]]:
    """The folders with runs, `output` and those in it; and the names of what else is there.

    Raises:
        UserError: `output` cannot be read.
    """
    runs = numbered_folders(output)
    folders = [output] if runs else []
    others = []
    for path in sorted(output.iterdir() if output.is_dir() else []):
        if path.name.startswith(".") or path.name == "README.md" or path in runs:
            continue
        try:
            inside = path.is_dir() and bool(numbered_folders(path))
        except UserError:
            inside = False
        if inside:
            folders.append(path)
        else:
            others.append(path.name)
    return folders, others


def describe(run: Path) -> tuple[str, ...]:
    """A row of the table; for a folder that is not a run, or is damaged, the state says so."""
    size = f"{sum(_sizes(run)) / 1e6:,.0f} MB"
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        settings, data = config["settings"], config["data"]
        kind, steps, images = config.get("kind", DEFAULT_KIND), settings.get("steps"), data["images"]
        logged, best, problem = _read_metrics(run, KINDS.get(kind))
        saved = step_of(checkpoints(run)[-1]) if checkpoints(run) else 0
        step = max(logged, saved)
        state = run_state(run, step, saved, steps, settings.get("minutes"))
        progress = f"{step:,}" + (f" of {steps:,}" if steps and step < steps else "")
        return (run.name, f"{images:,}", progress, best, size, state + problem)
    except FileNotFoundError:
        reason = "no config.json"
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        reason = "config.json is damaged"
    return (run.name, "", "", "", size, f"not a run: {reason}")


def _read_metrics(run: Path, kind: Kind | None) -> tuple[int, str, str]:
    """The last logged step, the best score in words, and what is wrong with the file, after a comma."""
    try:
        return *_parse_metrics(run, kind), ""
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return 0, "", ", metrics.jsonl is damaged"


def _parse_metrics(run: Path, kind: Kind | None) -> tuple[int, str]:
    path = run / "metrics.jsonl"
    lines = path.read_bytes().rpartition(b"\n")[0].splitlines() if is_file(path) else []
    logged = int(json.loads(lines[-1])["step"]) if lines else 0
    if kind is None:
        return logged, ""
    # Most lines have no score; parsing them all would take seconds in a long run.
    rows = [json.loads(line) for line in lines if f'"{kind.metric}"'.encode() in line]
    best = BestTracker.of(
        [int(row["step"]) for row in rows], [float(row[kind.metric]) for row in rows], kind.smoothed
    )
    return logged, f"{kind.label} {best.score:.3g} at step {best.step:,}" if best.step else ""


def _sizes(folder: Path) -> Iterator[int]:
    """The sizes of all files below a folder [bytes]; what cannot be read counts as 0."""
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(Path(parent, name)).st_size
            except OSError:
                continue


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print rows in aligned columns; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(title)
    for row in rows:
        cells = [
            cell.rjust(width) if column in ("images", "steps", "size") else cell.ljust(width)
            for cell, width, column in zip(row, widths, HEADER, strict=True)
        ]
        print("  " + "  ".join(cells).rstrip())


if __name__ == "__main__":
    run_script(main)
