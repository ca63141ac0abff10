"""Checkpoints: written whole or not at all, and read without running code."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engine.errors import UserError
from engine.files import atomic_write, is_file
from engine.finite import DivergedError
from engine.runs import NEWEST, best_path, checkpoint_path, checkpoints, find_checkpoint, step_of

FORMAT = 3
"""Counts changes of what a checkpoint holds."""
NETWORKS = ("generator", "discriminator", "average")


class DamagedCheckpointError(UserError):
    """A checkpoint file that is cut short, or is none."""


def save(run: Path, step: int, state: dict[str, Any], keep: int, networks: Sequence[str] = NETWORKS) -> Path:
    """Write the checkpoint of a step, then remove all but the newest `keep` up to it.

    What is newer stems from an earlier sitting that this one could not go on from: it is damaged, and
    removed as well. So is what a kill in the middle of writing left.

    Args:
        run: the run's folder.
        step: steps done.
        state: nested dicts and lists of tensors, numbers and strings.
        keep: checkpoints to keep, at least 1.
        networks: what in `state` are weights, by name, or None; they must be finite.

    Returns:
        The file written.

    Raises:
        DivergedError: a weight is not finite; nothing was written.
        UserError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    for name in networks:
        for key, tensor in (state.get(name) or {}).items():
            if not torch.isfinite(tensor).all():
                raise DivergedError(f"a weight ({name}, {key}) was NaN or infinite at step {step}")
    path = checkpoint_path(run, step)
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            torch.save({"format": FORMAT, "step": step, **state}, file)
    except (OSError, RuntimeError) as error:
        # After a failed write torch may end with an error of its own about the file's length.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        kept = checkpoints(run)
        rest = f"the newest complete one is {kept[-1]}" if kept else "there is no earlier one"
        reason = cause.strerror or cause
        raise UserError(f"checkpoint {path} could not be written: {reason}; {rest}") from None
    _remove_others(path, keep)
    return path


def save_as_best(checkpoint: Path) -> Path:
    """Have the run keep this checkpoint as its best, in place of the one before; where it is kept.

    Raises:
        OSError: it cannot be written; the one before is untouched.
    """
    best = checkpoint.with_name(best_path(checkpoint.parent.parent).name)
    _name_too(checkpoint, best)
    return best


def restore_best(run: Path) -> Path | None:
    """Give a run's best networks the name of their step's checkpoint, under which they may no longer be kept.

    So training can go on from them. None where the run has no best that is whole.

    Raises:
        OSError: it cannot be written.
    """
    try:
        path = checkpoint_path(run, load(best_path(run))["step"])
    except UserError:
        return None
    if not path.exists():
        _name_too(best_path(run), path)
    return path


def load(path: Path, *, mapped: bool = True) -> dict[str, Any]:
    """Read a checkpoint; if `mapped`, its tensors stay in the file until they are used.

    Raises:
        DamagedCheckpointError: the file is cut short, is no checkpoint, or holds more than plain data.
        UserError: it cannot be opened, or another version of this project wrote it.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror or error}") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception:
        # torch's readers answer a damaged file with nearly any exception there is, OSError included.
        raise DamagedCheckpointError(f"{path} is damaged, or no checkpoint of this project") from None
    if not isinstance(state, dict) or "format" not in state:
        raise DamagedCheckpointError(f"{path} is no checkpoint of this project")
    if state["format"] != FORMAT:
        raise UserError(f"{path} has format {state['format']}; this version reads format {FORMAT}")
    return state


def load_newest(run: Path, *, mapped: bool = True) -> tuple[Path, dict[str, Any], list[Path]]:
    """The newest checkpoint that is whole, what it holds, and the damaged ones that are newer.

    Raises:
        UserError: there is none.
    """
    damaged: list[Path] = []
    for path in reversed(checkpoints(run)):
        try:
            return path, load(path, mapped=mapped), damaged
        except DamagedCheckpointError:
            damaged.append(path)
    find_checkpoint(run, NEWEST)  # says so where there is no checkpoint at all
    raise UserError(f"every checkpoint of {run} is damaged: {', '.join(path.name for path in damaged)}")


def load_newest_and_report(run: Path) -> tuple[Path, dict[str, Any]]:
    """As `load_newest`, in memory; damaged checkpoints that are newer are told of in a line each."""
    path, state, damaged = load_newest(run, mapped=False)
    for other in damaged:
        print(f"warning: {other} is damaged and left aside")
    return path, state


def load_selected(run: Path, checkpoint: str | int | Path | None) -> tuple[Path, dict[str, Any]]:
    """A run's checkpoint and what it holds.

    Args:
        run: the run's folder.
        checkpoint: as for `load_generator`.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
    """
    if checkpoint is None and is_file(best_path(run)):
        with contextlib.suppress(DamagedCheckpointError):
            return best_path(run), load(best_path(run))
    if checkpoint in (None, NEWEST):
        path, state, _ = load_newest(run)
        return path, state
    path = find_checkpoint(run, checkpoint)
    return path, load(path)


def load_path(path: Path) -> tuple[Path, dict[str, Any]]:
    """A checkpoint and what it holds, from its file or, as `load_selected` chooses, from a run's folder.

    Raises:
        UserError: there is no such file or folder, it has no checkpoint, or that is damaged.
    """
    return load_selected(path, None) if path.is_dir() else (path, load(path))


def _name_too(path: Path, name: Path) -> None:
    """Have a file stand under a second name, in place of what stood there."""
    if name.exists() and name.samefile(path):
        return  # to move one name of a file over another does nothing, and would leave the temporary one
    with atomic_write(name) as temporary:
        temporary.unlink()
        try:
            temporary.hardlink_to(path)  # takes no room while both names stand
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)


def _remove_others(newest: Path, keep: int) -> None:
    """Leave `newest` and the checkpoints before it, `keep` in all."""
    found = checkpoints(newest.parent.parent)
    history = [path for path in found if step_of(path) <= step_of(newest)]
    unfinished = newest.parent.glob(".*.pt")
    for path in {*found, *unfinished} - {*history[-keep:]}:
        path.unlink(missing_ok=True)
