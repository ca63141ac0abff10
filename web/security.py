"""What every request has to pass, and what every answer tells the browser.

Another site's page that is open in the same browser can send requests to a server on 127.0.0.1, and a site
whose name suddenly resolves to 127.0.0.1 (DNS rebinding) can also read the answers. So a request must name
this server as its host, and must come from one of its own pages. Nothing here imports torch.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 32 * 2**20
"""Bytes of a request's body, such as a photo."""
TOO_LARGE = f"the file is larger than {MAX_BODY // 2**20} MiB"
METHODS = ("GET", "HEAD", "POST")
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""No other host, no inline script or style, no evaluated text; WebAssembly may be compiled."""
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), interest-cohort=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class BodyTooLargeError(Exception):
    """A request's body exceeds `MAX_BODY`."""


class Guard:
    """ASGI middleware that refuses foreign and oversized requests, and adds `HEADERS` to answers.

    Args:
        app: the application behind it.
        host: address that the server listens on.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if refusal := _refusal(scope, self._host):
            status, reason = refusal
            await PlainTextResponse(f"{reason}\n", status)(scope, receive, send_guarded)
            return
        try:
            await self._app(scope, _limited(receive), send_guarded)
        except ClientDisconnect:
            pass  # the page no longer wants the answer
        except BodyTooLargeError:
            if not started:
                await _too_large()(scope, receive, send_guarded)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_allowed_host(name: str, host: str) -> bool:
    """Whether a request to the host `name`, without port, may be answered.

    A server on a loopback address answers to loopback names alone. With another address to listen on, any
    address in digits is allowed too, as DNS rebinding needs a name, and this machine's own name.

    Args:
        name: host of the request.
        host: address that the server listens on.
    """
    name = name.strip("[]").lower()
    if is_loopback(name):
        return True
    if is_loopback(host):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in {host.lower(), socket.gethostname().lower()}
    return True


def _refusal(scope: Scope, host: str) -> tuple[int, str] | None:
    """The status and reason with which a request is refused; None if it is allowed."""
    headers = Headers(scope=scope)
    named = headers.getlist("host")
    name = _host_name(named[0]) if len(named) == 1 else None
    if name is None or not is_allowed_host(name, host):
        return 421, "this server answers only to its own address: open the one that explore.py printed"
    if scope["method"] not in METHODS:
        return 405, "method not allowed"
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"{scope['scheme']}://{named[0]}".lower():
        return 403, "the request comes from a page of another site"
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not _is_visit(scope, headers):
        return 403, "the request comes from a page of another site"
    length = headers.get("content-length")
    if length is not None and (not length.isascii() or not length.isdecimal() or int(length) > MAX_BODY):
        return 413, TOO_LARGE
    return None


def _host_name(value: str) -> str | None:
    """The host of a Host header, without its port; None if it is not valid."""
    try:
        parts = urlsplit(f"//{value}")
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return None
    return parts.hostname if parts.netloc == value and "@" not in value else None


def _is_visit(scope: Scope, headers: Headers) -> bool:
    """Whether a person follows a link to a page, which is harmless: the other site cannot read it."""
    destination = headers.get("sec-fetch-dest"), headers.get("sec-fetch-mode")
    return (
        scope["method"] == "GET"
        and destination == ("document", "navigate")
        and not scope["path"].startswith("/api/")
    )


def _limited(receive: Receive) -> Receive:
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise BodyTooLargeError
        return message

    return limited


def _too_large() -> PlainTextResponse:
    return PlainTextResponse(f"{TOO_LARGE}\n", 413)


def browsable(host: str) -> str:
    """The host to open in a browser for an address to listen on."""
    unspecified: Iterable[str] = ("0.0.0.0", "::", "")
    name = "127.0.0.1" if host in unspecified else host
    return f"[{name}]" if ":" in name else name
