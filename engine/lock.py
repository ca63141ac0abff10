"""One process to a run, or a file: two that work on the same would spoil each other's records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from engine.errors import UserError


@contextmanager
def locked(
    run: Path, doing: str = "training", *, name: str = ".lock", timeout: float = 0.0
) -> Iterator[None]:
    """While the block runs, no other process has this run; a process that dies lets go of it.

    Args:
        run: its folder.
        doing: what the other process is told to be doing there.
        name: of the lock's file in that folder, where not all of the folder is meant.
        timeout: seconds until the other process is told of.

    Raises:
        UserError: another process has it, or its folder cannot be written to.
    """
    try:
        lock = FileLock(run / name, timeout=timeout).acquire()
    except Timeout:
        raise UserError(f"another process is {doing} in {run}: stop it first") from None
    except OSError as error:
        raise UserError(f"{run} cannot be written to: {error.strerror}") from None
    with lock:
        yield
