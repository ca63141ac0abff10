"""The server of the pages: an application of starlette, run by uvicorn on this machine alone by default."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from engine.errors import UserError
from web import explorer, recogniser, training
from web.address import PORT
from web.answers import Json
from web.context import Context
from web.security import HEADERS, Guard, browsable, is_loopback

STATIC = Path(__file__).parent / "static"
PAGES = ("explorer", "training", "recogniser")
"""The first is the start page. Each is a folder of `static` with an index.html."""
PORTS_TRIED = 20
"""Ports from the default one on; the first that is free is used."""


class _Files(StaticFiles):
    """The package's files; a browser asks each time whether they changed, as after an update."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(context: Context, host: str = "127.0.0.1") -> Starlette:
    """The application.

    Args:
        context: what the pages share.
        host: address that the server listens on, to which requests must be sent.
    """
    routes: list[BaseRoute] = [
        Route("/", _start_page),
        *(Route(f"/{page}", _page) for page in PAGES),
        Route("/favicon.ico", _icon),
        Mount("/static", _Files(directory=STATIC)),
        *explorer.routes(context),
        *training.routes(context),
        *recogniser.routes(context),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={UserError: _mistake, HTTPException: _http_error, Exception: _failure},
    )
    app.state.context = context
    return app


async def _start_page(request: Request) -> Response:
    return RedirectResponse(f"/{PAGES[0]}")


async def _page(request: Request) -> Response:
    page = request.url.path.strip("/")
    # Not before the first page is sent: torch takes seconds of a core, and the page needs none of it.
    # The explorer computes in the browser, and while torch is imported nothing else is answered.
    preload = None if page == "explorer" else BackgroundTask(request.app.state.context.preload)
    headers = {"Cache-Control": "no-cache"}
    return FileResponse(STATIC / page / "index.html", headers=headers, background=preload)


async def _icon(request: Request) -> Response:
    return FileResponse(STATIC / "shared" / "icon.svg", headers={"Cache-Control": "no-cache"})


async def _mistake(request: Request, error: Exception) -> Response:
    return Json({"error": str(error)}, 400)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Json({"error": error.detail}, error.status_code, error.headers)


async def _failure(request: Request, error: Exception) -> Response:
    # Starlette answers to unexpected errors outside of all middleware, so `Guard` cannot add these.
    return Json({"error": "the server failed: the terminal of explore.py says why"}, 500, HEADERS)


class _Server(uvicorn.Server):
    """Tells the context of Ctrl-C, so that streams end and the server need not wait for them."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._context.closing.set()
        super().handle_exit(sig, frame)


def serve(
    context: Context, *, host: str, port: int | None, browser: bool, start: str = f"/{PAGES[0]}"
) -> None:
    """Serve the pages until Ctrl-C or SIGTERM, and print their address.

    Args:
        context: what the pages share.
        host: address to listen on.
        port: port to listen on; None for the first free one from `web.address.PORT` on.
        browser: open the start page in the user's browser.
        start: path of the start page.

    Raises:
        UserError: the address cannot be used.
    """
    listener = open_listener(host, port)
    address = f"http://{browsable(host)}:{listener.getsockname()[1]}"
    print(f"{address}{start}  (Ctrl-C stops the server)")
    if not is_loopback(host):
        print(
            f"warning: --host {host} serves everyone who can reach this machine, without a password, over "
            "an unencrypted connection"
        )
        if host in ("0.0.0.0", "::"):  # then the address above is this machine's alone
            other = f"http://{socket.gethostname()}:{listener.getsockname()[1]}{start}"
            print(f"from other machines: {other}, or with this machine's IP address")
    if browser and _has_display():
        # The listener accepts from now on, so the browser waits for the server, not the reverse.
        threading.Thread(target=webbrowser.open, args=(address + start,), daemon=True).start()
    config = uvicorn.Config(
        create_app(context, host),
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
        backlog=128,
    )
    try:
        _Server(config, context).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn raises the signal again after it has ended cleanly
    finally:
        context.close()
    print("stopped")


def _has_display() -> bool:
    """Whether a browser can open a window; without one, Python would start a browser in the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def open_listener(host: str, port: int | None) -> socket.socket:
    """A listening socket; see `serve`. Raises `UserError` if the address cannot be used."""
    ports = range(PORT, PORT + PORTS_TRIED) if port is None else (port,)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason = ""
    for number in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere, it would share a port that is in use
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, number))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):  # no port of this host can be used
                raise UserError(f"--host {host} cannot be used ({reason}): give another") from None
    hint = "give another --port" if port is not None else "give --port"
    raise UserError(f"{host}, port {ports[0]}, cannot be used ({reason}): {hint}")
