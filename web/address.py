"""Where the pages are, for scripts that name them. Imports no server."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from urllib.parse import quote

HOST = "127.0.0.1"
PORT = 8421
"""Port of explore.py by default."""
OUTPUT = Path("outputs")
"""Folder of all runs by default; explore.py also lists those in its sub-folders."""


def watch_hint(run: Path) -> str:
    """A line that says how to watch a run: the command, and the address where it serves the run's page."""
    address = f"http://{HOST}:{PORT}/training"
    with contextlib.suppress(ValueError):  # a run elsewhere has no name to link to
        address += f"?run={quote(run.resolve().relative_to(OUTPUT.resolve()).as_posix())}"
    return f"watch it in a browser: `python explore.py {shlex.quote(str(run))}`, {address}"
