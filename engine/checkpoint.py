"""Checkpoints: written atomically, and loaded without running code."""

from __future__ import annotations

import contextlib
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engine import files
from engine.errors import UserError, is_out_of_memory
from engine.files import atomic_write, is_file
from engine.finite import DivergedError
from engine.runs import (
    NEWEST,
    best_path,
    checkpoint_path,
    checkpoints,
    find_checkpoint,
    report_write_errors,
    step_of,
)

FORMAT = 3
"""Version of a checkpoint's contents."""


class DamagedCheckpointError(UserError):
    """A file that is truncated or not a checkpoint."""


def save(run: Path, step: int, state: dict[str, Any], keep: int, networks: Sequence[str]) -> Path:
    """Write the checkpoint of a step, then remove all but the newest `keep` up to that step.

    Later checkpoints are removed too: they are damaged files that an earlier process left. If they were
    intact, the run would have resumed from them. So are the partial files of interrupted writes.

    Args:
        run: the run's folder.
        step: steps completed.
        state: nested dicts and lists of tensors, numbers and strings.
        keep: number of checkpoints to keep, at least 1.
        networks: keys of `state` with state dicts, or None, whose weights must be finite.

    Returns:
        The file written.

    Raises:
        DivergedError: a weight is not finite; nothing was written.
        UserError: the disk is full or read-only; earlier checkpoints are unchanged.
    """
    for name in networks:
        for key, tensor in (state.get(name) or {}).items():
            if not torch.isfinite(tensor).all():
                raise DivergedError(f"a weight ({name}, {key}) was NaN or infinite at step {step}")
    path, earlier = checkpoint_path(run, step), checkpoints(run)
    hint = f"the newest complete one is {earlier[-1]}" if earlier else "there is no earlier one"
    with report_write_errors(path, hint):
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                torch.save({"format": FORMAT, "step": step, **state}, file)
        except RuntimeError as error:
            # After a failed write, torch may raise an error about the file's length instead.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    _remove_others(path, keep)
    return path


def save_as_best(checkpoint: Path) -> None:
    """Copy a run's checkpoint to its best.pt.

    Raises:
        UserError: the file cannot be written; the previous best.pt is unchanged.
    """
    _copy(checkpoint, best_path(checkpoint.parent.parent))


def restore_best(run: Path) -> Path | None:
    """Copy best.pt back to the checkpoint of its step, if that was removed, so training can resume there.

    Returns:
        That checkpoint; None if the run has no intact best.pt.

    Raises:
        UserError: the file cannot be written.
    """
    best = best_path(run)
    try:
        checkpoint = checkpoint_path(run, load(best)["step"])
    except UserError:
        return None
    if not checkpoint.exists():
        _copy(best, checkpoint)
    return checkpoint


def load(path: Path, *, mapped: bool = True) -> dict[str, Any]:
    """Load a checkpoint's state onto the CPU; if `mapped`, tensors stay in the file until they are used.

    Raises:
        DamagedCheckpointError: the file is truncated, not a checkpoint, or contains more than plain data.
        UserError: the file cannot be opened, or another version of this project wrote it.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror or error}") from None
    try:
        # Training replaces best.pt and removes old checkpoints. Windows refuses both while they are mapped.
        mapped = mapped and files.REPLACES_OPEN_FILES
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        if is_out_of_memory(error):
            raise  # a damaged file would be passed over, and later removed
        # For a damaged file, torch raises nearly any exception, including OSError.
        raise DamagedCheckpointError(f"{path} is damaged, or not a checkpoint of this project") from None
    if not isinstance(state, dict) or "format" not in state:
        raise DamagedCheckpointError(f"{path} is not a checkpoint of this project")
    if state["format"] != FORMAT:
        raise UserError(f"{path} has format {state['format']}; this version reads format {FORMAT}")
    return state


def load_newest(run: Path, *, mapped: bool = True) -> tuple[Path, dict[str, Any], list[Path]]:
    """Load a run's newest intact checkpoint, or best.pt if there is no other.

    Returns:
        Its file, its state, and the checkpoints before it in this order, which are damaged.

    Raises:
        UserError: the run has no checkpoint, or none is intact.
    """
    return _load_first_intact(run, [*reversed(checkpoints(run)), best_path(run)], mapped=mapped)


def load_best(run: Path, *, mapped: bool = True) -> tuple[Path, dict[str, Any], list[Path]]:
    """As `load_newest`, but best.pt precedes the newest."""
    return _load_first_intact(run, [best_path(run), *reversed(checkpoints(run))], mapped=mapped)


def _load_first_intact(
    run: Path, paths: Sequence[Path], *, mapped: bool
) -> tuple[Path, dict[str, Any], list[Path]]:
    damaged: list[Path] = []
    for path in filter(is_file, paths):
        try:
            return path, load(path, mapped=mapped), damaged
        except DamagedCheckpointError:
            damaged.append(path)
    find_checkpoint(run, NEWEST)  # raises if there is no checkpoint at all
    raise UserError(f"every checkpoint of {run} is damaged: {', '.join(path.name for path in damaged)}")


def load_and_report(run: Path, *, best: bool = False, mapped: bool = False) -> tuple[Path, dict[str, Any]]:
    """As `load_newest` or `load_best`, with a warning on standard error if a checkpoint is damaged."""
    path, state, damaged = (load_best if best else load_newest)(run, mapped=mapped)
    for damaged_path in damaged:
        print(f"warning: {damaged_path} is damaged; using {path.name}", file=sys.stderr)
    return path, state


def load_selected(run: Path, checkpoint: str | int | Path | None) -> tuple[Path, dict[str, Any]]:
    """Load one of a run's checkpoints.

    Args:
        run: the run's folder.
        checkpoint: its step, its file, `best` or `newest`; None for the best or, if there is none, the
            newest. The newest, or the best of None, may be damaged: then the one before it is loaded, with a
            warning.

    Returns:
        Its file and its state.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
    """
    if checkpoint in (None, NEWEST):
        return load_and_report(run, best=checkpoint is None, mapped=True)
    path = find_checkpoint(run, checkpoint)
    return path, load(path)


def load_path(path: Path) -> tuple[Path, dict[str, Any]]:
    """Load a checkpoint file, or the best or else newest checkpoint of a run's folder.

    Returns:
        The file and its state.

    Raises:
        UserError: the file or folder does not exist, has no checkpoint, or the checkpoint is damaged.
    """
    return load_selected(path, None) if path.is_dir() else (path, load(path))


def _copy(source: Path, target: Path) -> None:
    with report_write_errors(target), atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)


def _is_complete(path: Path) -> bool:
    """Whether a file is not truncated, which is the usual damage; one that cannot be read may be intact."""
    try:
        with path.open("rb") as file:
            return zipfile.is_zipfile(file)
    except OSError:
        return True


def _remove_others(newest: Path, keep: int) -> None:
    """Remove all checkpoints but `newest` and the `keep - 1` intact ones before it."""
    existing, partial = checkpoints(newest.parent.parent), newest.parent.glob(".*.pt")
    history = [path for path in existing if step_of(path) <= step_of(newest) and _is_complete(path)]
    for path in {*existing, *partial} - {*history[-keep:]}:
        # On Windows, another process may be reading it; the next save removes it.
        with contextlib.suppress(PermissionError):
            path.unlink(missing_ok=True)
