"""Run folders: numbered, self-describing, and found by name, by number or as the newest.

    outputs/0007-faces-96px/
        config.json                   settings, versions, the data set's digest and size
        samples/step_000100.png       the same latent vectors every time
        real.png                      a grid of images of the data set
        checkpoints/step_001000.pt    all that resuming needs
        checkpoints/best.pt           a copy of the checkpoint with the best score
        metrics.jsonl                 one line per logging step
        events.out.tfevents.*         the same for TensorBoard
        events.txt                    alarms, recoveries and interruptions, if any
        skipped.txt                   files of the data folder that were skipped, and why

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

RUN_NAME = re.compile(r"(\d{4,})-.+")
STEP_NAME = re.compile(r"step_(\d{6,})")
BEST, NEWEST = "best", "newest"
"""Names that select a checkpoint."""
STOPPED = "stopped: "
"""Prefix of the last event of a run that stopped because recovery failed."""
INTERRUPTED = "interrupted by "
"""Prefix of the last event of a run that a signal stopped."""
DEFAULT_KIND = "gan"
"""The kind of a run whose config.json does not name one."""


@dataclass(frozen=True)
class RunInfo:
    """The contents of a run's config.json."""

    settings: Any
    """A dataclass: `gan.config.Settings`, or the settings of another kind of run."""
    data: dict[str, Any]
    """The data set: folder, digest, images, held_out, skipped and, for a GAN, duplicates and near_duplicates;
    begun_from, if the run started from the networks of another."""
    environment: dict[str, Any]
    """Versions and hardware that bit-for-bit reproduction depends on."""
    kind: str = DEFAULT_KIND
    """What was trained."""


def create_run(output: Path, name: str, image_size: int) -> Path:
    """Create the next numbered folder in `output`, such as `0007-faces-96px`; never an existing one.

    Raises:
        UserError: `output` cannot be created or written to.
    """
    slug = _slug(name)
    with report_write_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        number = max(map(_number, numbered_folders(output)), default=0)
        while True:
            number += 1
            # Another process may take the number at the same time: only one can create this folder.
            claim = output / f".{number:04d}"
            try:
                claim.mkdir()
            except FileExistsError:
                continue
            try:
                if number not in map(_number, numbered_folders(output)):
                    run = output / f"{number:04d}-{slug}-{image_size}px"
                    run.mkdir()
                    return run
            finally:
                claim.rmdir()


def find_run(
    run: str | Path | None, output: Path = Path("outputs"), script: str = "train_gan.py FOLDER"
) -> Path:
    """Find the folder of a run.

    Args:
        run: a folder, or the name or number of a run in `output`; None for the newest run there.
        output: the folder of runs.
        script: the command that creates a run, for the error message.

    Raises:
        UserError: there is no such run, or `output` cannot be read.
    """
    runs = runs_in(output)
    if run is None:
        if not runs:
            raise UserError(f"there is no run in {output}; `python {script}` creates one")
        return runs[-1]
    for candidate in (Path(run), output / run):
        if is_run(candidate):
            return candidate
    for candidate in runs:
        if str(run).isdecimal() and _number(candidate) == int(str(run)):
            return candidate
    if is_file(Path(run)):
        raise UserError(f"{run} is a file: this needs a run, which is a folder")
    raise UserError(
        f"{run} is not a run: no config.json there, and no run of that name or number in {output}"
    )


def runs_in(output: Path) -> list[Path]:
    """The runs in a folder, by number. Raises `UserError` if it cannot be read."""
    return list(filter(is_run, numbered_folders(output)))


def numbered_folders(output: Path) -> list[Path]:
    """The folders that are named like runs, by number. Raises `UserError` if `output` cannot be read."""
    try:
        if not output.is_dir():
            return []
        folders = [path for path in output.iterdir() if RUN_NAME.fullmatch(path.name) and path.is_dir()]
    except OSError as error:
        raise UserError(f"{output} cannot be read: {error.strerror or error}") from None
    return sorted(folders, key=_number)


def find_run_or_checkpoint(name: str | Path, output: Path, script: str) -> Path:
    """The checkpoint file of this name or, if there is none, a run; see `find_run`."""
    path = Path(name)
    return path if is_file(path) else find_run(name, output, script)


def checkpoints(run: Path) -> list[Path]:
    """The run's checkpoint files, oldest first."""
    return _files_by_step(run / "checkpoints", ".pt")


def has_checkpoint(run: Path) -> bool:
    """Whether the run has any checkpoint. The run of someone else may have best.pt alone."""
    return bool(checkpoints(run)) or is_file(best_path(run))


def checkpoint_path(run: Path, step: int) -> Path:
    """The file for the checkpoint of a step."""
    return run / "checkpoints" / f"step_{step:06d}.pt"


def best_path(run: Path) -> Path:
    """The file for the checkpoint with the best score."""
    return run / "checkpoints" / f"{BEST}.pt"


def gave_up(run: Path) -> bool:
    """Whether the run stopped because recovery failed: the last event in events.txt."""
    return f": {STOPPED}" in last_event(run)


def last_event(run: Path) -> str:
    """The last line of events.txt; an empty string without any."""
    try:
        return (run / "events.txt").read_text(encoding="utf-8").rstrip("\n").rpartition("\n")[2]
    except (OSError, ValueError):
        return ""


def sample_grids(run: Path) -> list[Path]:
    """The run's sample grids, oldest first."""
    return _files_by_step(run / "samples", ".png")


def sample_path(run: Path, step: int) -> Path:
    """The file for the sample grid of a step."""
    return run / "samples" / f"step_{step:06d}.png"


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint or sample grid."""
    match = STEP_NAME.fullmatch(path.stem)
    assert match is not None, path
    return int(match[1])


def find_checkpoint(run: Path, checkpoint: str | int | Path | None) -> Path:
    """Find the file of a checkpoint.

    Args:
        run: the run's folder.
        checkpoint: its step, its file, `best` or `newest`; None for the best or, if no step has a score, the
            newest. If the best is the only one, it is also the newest.

    Raises:
        UserError: the run does not have this checkpoint; the message lists the steps it has.
    """
    existing, best = checkpoints(run), best_path(run)
    if checkpoint in (None, BEST) and is_file(best):
        return best
    if checkpoint == BEST:
        raise UserError(f"{run} has no best checkpoint: no step has a score yet")
    if checkpoint in (None, NEWEST):
        if not has_checkpoint(run):
            raise UserError(f"{run} has no checkpoint yet")
        return existing[-1] if existing else best
    candidates = [Path(str(checkpoint)), run / "checkpoints" / str(checkpoint)]
    if str(checkpoint).isdecimal():
        candidates.insert(0, checkpoint_path(run, int(str(checkpoint))))
    for path in candidates:
        if is_file(path):
            return path
    steps = ", ".join(str(step_of(path)) for path in existing) or "none"
    raise UserError(f"{run} has no checkpoint {checkpoint}; available steps: {steps}")


def write_info(run: Path, info: RunInfo) -> None:
    """Write config.json."""
    parts = {"settings": to_json(info.settings), "data": info.data, "environment": info.environment}
    values = parts if info.kind == DEFAULT_KIND else {"kind": info.kind, **parts}
    with atomic_write(run / "config.json") as path:
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        # What UTF-8 cannot encode, such as a folder name in another encoding, becomes JSON's \udcff.
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


def is_run(folder: Path) -> bool:
    """Whether a folder has the description of a run."""
    return is_file(folder / "config.json")


def read_info(run: Path, kind: str, read_settings: Callable[[dict[str, Any]], Any]) -> RunInfo:
    """Read config.json.

    Args:
        run: the run's folder.
        kind: the expected kind of run.
        read_settings: makes settings from JSON values, or raises `UserError`.

    Raises:
        UserError: the file is missing, unreadable, invalid, or of another kind of run.
    """
    path = run / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    keys = ("settings", "data", "environment")
    parts = [values.get(key) if isinstance(values, dict) else None for key in keys]
    if not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{path} does not contain settings, data and environment")
    settings, data, environment = parts
    actual_kind = values.get("kind", DEFAULT_KIND)
    if actual_kind != kind:
        raise UserError(f"{run} is a run of another kind: {actual_kind}, not {kind}")
    try:
        return RunInfo(read_settings(settings), data, environment, kind)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


@contextmanager
def report_write_errors(path: Path, hint: str = "") -> Iterator[None]:
    """Turn any `OSError` in this block, such as a full disk, into a one-line `UserError`.

    Args:
        path: the file or folder being written.
        hint: what to add to the message, such as which files are intact.
    """
    try:
        yield
    except OSError as error:
        reason = f"{path} cannot be written to: {error.strerror or error}"
        raise UserError(f"{reason}; {hint}" if hint else reason) from None


def _files_by_step(folder: Path, suffix: str) -> list[Path]:
    files = [path for path in folder.glob(f"step_*{suffix}") if STEP_NAME.fullmatch(path.stem)]
    return sorted(files, key=step_of)


def _number(run: Path) -> int:
    match = RUN_NAME.fullmatch(run.name)
    assert match is not None, run
    return int(match[1])


def _slug(name: str) -> str:
    """A name as part of a folder's: letters and digits of any script, everything else as single hyphens."""
    composed = unicodedata.normalize("NFC", name)
    # Category M: the vowel signs of Indic scripts, which \w does not match.
    chars = [char if char == "_" or unicodedata.category(char)[0] in "LMN" else " " for char in composed]
    return "-".join("".join(chars).split())[:60].strip("-_") or "run"
