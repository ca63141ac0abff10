"""The newest run, if it can be used; otherwise the message names one that can. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.errors import UserError
from engine.lock import is_locked
from engine.runs import find_run, has_checkpoint, runs_in

Check = Callable[[Path], str | None]
"""Returns why a run cannot be used, such as "has no checkpoint yet"; None if it can."""


def without_checkpoint(run: Path) -> str | None:
    """Why a run cannot be loaded: it has no checkpoint."""
    if has_checkpoint(run):
        return None
    return "has no checkpoint yet" + (
        ", as another process is still training in it" if is_locked(run) else ""
    )


def not_resumable(run: Path) -> str | None:
    """Why a run cannot be resumed: another process is training in it, or it has no checkpoint."""
    return without_checkpoint(run) or (
        "is in use: another process is training in it" if is_locked(run) else None
    )


def find_usable_run(run: str | Path | None, output: Path, script: str, check: Check) -> Path:
    """As `find_run`, but the newest run, if none is named, must pass a check.

    Args:
        run: a folder, or the name or number of a run in `output`; None for the newest run there.
        output: the folder of runs.
        script: the command that creates a run, for the error message.
        check: see `Check`.

    Raises:
        UserError: there is no such run, or the newest one fails the check; the message names the newest run
            that passes it.
    """
    found = find_run(run, output, script)
    if run is not None or (problem := check(found)) is None:
        return found
    others = [other for other in reversed(runs_in(output)) if other != found]
    usable = next((other for other in others if check(other) is None), None)
    raise UserError(f"{found} {problem}" + (f"; {usable.name} can be used: give its name" if usable else ""))
