"""Where the pages are, for scripts that name them. Imports nothing."""

from __future__ import annotations

from urllib.parse import quote

HOST = "127.0.0.1"
PORT = 8421
"""Port of explore.py by default."""


def training_address(run: str, port: int = PORT) -> str:
    """The address of the page that shows a run, by its name, once explore.py serves it."""
    return f"http://{HOST}:{port}/training?run={quote(run, safe='/')}"
