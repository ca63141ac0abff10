"""One process per run or file, so that two never write to the same one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from engine.errors import UserError
from engine.runs import report_write_errors

LOCK = ".lock"
"""Name of the lock file."""
PATIENCE = 0.5
"""Seconds to wait for a lock. `is_locked` holds it for a moment, as often as a page shows whether a run is
training: whoever starts just then must not be refused."""
PROBE_SECONDS = 0.02
"""Seconds for which `is_locked` must find a lock taken, as another process may ask at the same time."""


def is_locked(folder: Path) -> bool:
    """Whether another process has locked a folder. Changes nothing there."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=PROBE_SECONDS, poll_interval=PROBE_SECONDS / 5):
            return False
    except Timeout:
        return True
    except OSError:  # such as a read-only folder
        return False


@contextmanager
def locked(
    folder: Path, activity: str = "training", *, name: str = LOCK, timeout: float = PATIENCE
) -> Iterator[None]:
    """Lock a folder while the block runs. The lock of a process that dies is released.

    Args:
        folder: the folder, such as that of a run.
        activity: what processes do there, for the error message.
        name: of the lock file, to lock only a part of the folder.
        timeout: seconds to wait for another process.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written to.
    """
    with report_write_errors(folder):
        try:
            lock = FileLock(folder / name, timeout=timeout).acquire()
        except Timeout:
            raise UserError(f"another process is {activity} in {folder}: stop it first") from None
    with lock:
        yield
