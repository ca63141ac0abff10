"""Run folders: numbered, self-describing, and found again by name, by number or by being the newest.

    outputs/0007-faces-96px/
        config.json                   settings, versions, the data set's digest and size
        samples/step_000100.png       the same latent vectors every time
        real.png                      a grid of the data set's images
        checkpoints/step_001000.pt    all that resuming needs
        checkpoints/best.pt           that of the step with the best score
        metrics.jsonl                 one line a logging step
        events.out.tfevents.*         the same for TensorBoard
        events.txt                    alarms, and what was done about them, if there were any
        skipped.txt                   files of the data folder that were left out, and why

Nothing here imports torch.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.files import atomic_write, is_file
from engine.settings import to_json

NUMBERED = re.compile(r"(\d{4,})-.+")
STEP = re.compile(r"step_(\d{6,})")
BEST, NEWEST = "best", "newest"
"""Checkpoints that have names."""
STOPPED = "stopped: "
"""How the last event in events.txt of a run that nothing mended begins."""
DEFAULT_KIND = "gan"
"""The kind of a run whose config.json does not name one."""


@dataclass(frozen=True)
class RunInfo:
    """What a run's config.json holds."""

    settings: Any
    """A dataclass: `gan.config.Settings`, or that of another kind of run."""
    data: dict[str, Any]
    """Of the data set: folder, digest, images, held_out, skipped, duplicates; and begun_from, another run."""
    environment: dict[str, Any]
    """Versions and hardware that bit-for-bit repetition depends on."""
    kind: str = "gan"
    """What was trained."""


def create_run(output: Path, name: str, image_size: int) -> Path:
    """Make the next numbered folder in `output`, such as `0007-faces-96px`; never one that exists.

    Raises:
        UserError: `output` cannot be made or written to.
    """
    slug = _slug(name)
    try:
        output.mkdir(parents=True, exist_ok=True)
        number = max(map(_number, _numbered(output)), default=0)
        while True:
            number += 1
            # Another process may take the number between the look and the deed: only one can make this.
            claim = output / f".{number:04d}"
            try:
                claim.mkdir()
            except FileExistsError:
                continue
            try:
                if number not in map(_number, _numbered(output)):
                    run = output / f"{number:04d}-{slug}-{image_size}px"
                    run.mkdir()
                    return run
            finally:
                claim.rmdir()
    except OSError as error:
        raise UserError(f"no run folder can be made in {output}: {error.strerror}") from None


def find_run(
    run: str | Path | None, output: Path = Path("outputs"), script: str = "train_gan.py FOLDER"
) -> Path:
    """The folder of a run.

    Args:
        run: a folder, or the name or number of a run inside `output`; None for the newest there.
        output: the folder of runs.
        script: what to tell a user to call where there is none.

    Raises:
        UserError: there is no such run, or none at all, or `output` may not be read.
    """
    try:
        runs = [known for known in _numbered(output) if _is_run(known)]
    except OSError as error:
        raise UserError(f"{output} cannot be looked into: {error.strerror or error}") from None
    if run is None:
        newest = max(runs, key=_number, default=None)
        if newest is None:
            raise UserError(f"there is no run in {output}; `python {script}` makes one")
        return newest
    for candidate in (Path(run), output / run):
        if _is_run(candidate):
            return candidate
    for known in runs:
        if str(run).isdecimal() and _number(known) == int(str(run)):
            return known
    raise UserError(f"{run} is no run: no config.json is in it, nor a run of that name or number in {output}")


def find_run_or_checkpoint(named: str | Path, output: Path, script: str) -> Path:
    """What a user names to have its network: a checkpoint's file as it is, or else a run; see `find_run`."""
    path = Path(named)
    return path if is_file(path) else find_run(named, output, script)


def checkpoints(run: Path) -> list[Path]:
    """The run's checkpoint files, oldest first."""
    found = [path for path in (run / "checkpoints").glob("step_*.pt") if STEP.fullmatch(path.stem)]
    return sorted(found, key=step_of)


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return run / "checkpoints" / f"step_{step:06d}.pt"


def best_path(run: Path) -> Path:
    """Where the checkpoint with the best score is kept, once there is one."""
    return run / "checkpoints" / f"{BEST}.pt"


def gave_up(run: Path) -> bool:
    """Whether the run's last event was that it stopped, as nothing mended it: see `gan.rollback`."""
    try:
        events = (run / "events.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    return bool(events) and f": {STOPPED}" in events[-1]


def sample_grids(run: Path) -> list[Path]:
    """The run's sample grids, oldest first."""
    found = [path for path in (run / "samples").glob("step_*.png") if STEP.fullmatch(path.stem)]
    return sorted(found, key=step_of)


def sample_path(run: Path, step: int) -> Path:
    """Where the sample grid of a step is kept."""
    return run / "samples" / f"step_{step:06d}.png"


def step_of(path: Path) -> int:
    """The step that a checkpoint's or sample grid's name tells."""
    match = STEP.fullmatch(path.stem)
    assert match is not None, path
    return int(match[1])


def find_checkpoint(run: Path, checkpoint: str | int | Path | None) -> Path:
    """The file of a checkpoint.

    Args:
        run: the run's folder.
        checkpoint: its step, its file, `best` or `newest`; None for the best, or the newest where no
            step has a score.

    Raises:
        UserError: the run has none, or not that one; the message lists the steps there are.
    """
    found, best = checkpoints(run), best_path(run)
    if checkpoint in (None, BEST) and is_file(best):
        return best
    if checkpoint == BEST:
        raise UserError(f"{run} has no best checkpoint: no step has a score yet")
    if checkpoint in (None, NEWEST):
        if not found:
            raise UserError(f"{run} has no checkpoint yet")
        return found[-1]
    if str(checkpoint).isdecimal():
        path = checkpoint_path(run, int(str(checkpoint)))
        if is_file(path):
            return path
    for path in (Path(str(checkpoint)), run / "checkpoints" / str(checkpoint)):
        if is_file(path):
            return path
    steps = ", ".join(str(step_of(path)) for path in found) or "none"
    raise UserError(f"{run} has no checkpoint {checkpoint}; there are: {steps}")


def write_info(run: Path, info: RunInfo) -> None:
    """Write config.json."""
    parts = {"settings": to_json(info.settings), "data": info.data, "environment": info.environment}
    values = parts if info.kind == DEFAULT_KIND else {"kind": info.kind, **parts}
    with atomic_write(run / "config.json") as path:
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        # What UTF-8 cannot hold, such as the bytes of a folder named in another code, becomes JSON's \udcff.
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_info(run: Path, kind: str, read_settings: Callable[[dict[str, Any]], Any]) -> RunInfo:
    """Read config.json.

    Args:
        run: the run's folder.
        kind: what it should have trained.
        read_settings: makes settings of the values JSON holds, or raises `UserError`.

    Raises:
        UserError: it is not there, not readable, of another kind, or was edited into something that is
            no run.
    """
    path = run / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}") from None
    keys = ("settings", "data", "environment")
    parts = [values.get(key) if isinstance(values, dict) else None for key in keys]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path} does not hold settings, data and environment")
    settings, data, environment = parts
    found = values.get("kind", DEFAULT_KIND)
    if found != kind:
        raise UserError(f"{run} is a run of another kind: {found}, not {kind}")
    try:
        return RunInfo(read_settings(settings), data, environment, kind)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


@contextmanager
def report_write_errors(folder: Path) -> Iterator[None]:
    """In this block a full or read-only disk, on which the folder is, becomes a line (`UserError`)."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder} cannot be written to: {error.strerror or error}") from None


def _is_run(folder: Path) -> bool:
    return is_file(folder / "config.json")


def _numbered(output: Path) -> list[Path]:
    """The folders in it that are called like runs. Raises `OSError` where they cannot be looked at."""
    if not output.is_dir():
        return []
    return [path for path in output.iterdir() if NUMBERED.fullmatch(path.name) and path.is_dir()]


def _number(run: Path) -> int:
    match = NUMBERED.fullmatch(run.name)
    assert match is not None, run
    return int(match[1])


def _slug(name: str) -> str:
    """A name as part of a folder's: letters and digits of any script, the rest as single hyphens."""
    composed = unicodedata.normalize("NFC", name)
    # Marks are the vowel signs of Indian scripts, which \w would leave out.
    kept = [char if char == "_" or unicodedata.category(char)[0] in "LMN" else " " for char in composed]
    return "-".join("".join(kept).split())[:60].strip("-_") or "run"
