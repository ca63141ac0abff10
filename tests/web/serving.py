"""A real server on a free port of this machine, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from web.context import Context
from web.server import create_app, open_listener


@contextmanager
def serving(context: Context) -> Iterator[str]:
    """Serve the pages while the block runs; the address without a slash at its end."""
    listener = open_listener("127.0.0.1", 0)
    config = uvicorn.Config(create_app(context), log_level="error", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    # Its signals are the business of the process that runs the tests.
    server.capture_signals = _nothing  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        context.closing.set()
        server.should_exit = True
        thread.join(10)
        context.close()


@contextmanager
def _nothing() -> Iterator[None]:
    yield
