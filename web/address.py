"""Where the pages are, for scripts that name them. Imports no server."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import quote

HOST = "127.0.0.1"
PORT = 8421
"""Port of explore.py by default."""


def watch_hint(run: Path) -> str:
    """A line that says how to watch a run: the command, and the address where it serves the run's page."""
    address = f"http://{HOST}:{PORT}/training?run={quote(run.name)}"
    return f"watch it in a browser: `python explore.py {shlex.quote(str(run))}`, {address}"
