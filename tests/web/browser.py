"""Debian's Chromium, driven by playwright."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60_000
"""Milliseconds to wait for what a page does, on a slow machine."""


def find_chromium() -> str | None:
    """The path of a Chromium; None if there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def launch() -> Iterator[object]:
    """A browser, for a fixture of a module; skips without one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    # A page can be given a camera that shows a test picture.
    flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--mute-audio"]
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


class Visit:
    """A page, and what went wrong on it.

    Args:
        browser: playwright's.
        address: of the server.
        within: a context of another visit, for a second tab; a new one by default.
        options: of a new context, such as viewport.

    Attributes:
        page: playwright's.
        problems: errors of scripts and of the content security policy.
        foreign: addresses of other hosts that the page requested.
    """

    def __init__(
        self, browser: object, address: str, *, within: object | None = None, **options: object
    ) -> None:
        self.context = within or browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = address

    def _hear(self, message: object) -> None:
        if message.type == "error":
            self.problems.append(message.text)

    @property
    def foreign(self) -> list[str]:
        """Requests that left this machine."""
        return [url for url in self.requests if not url.startswith((self.address, "blob:", "data:"))]

    def wait(self, expression: str, argument: object = None) -> None:
        """Wait until an expression is true; playwright's own way is against the page's security policy."""
        self.wait_until(lambda: self.page.evaluate(expression, argument), expression)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition of the test itself is true, while the page goes on; `what` names it."""
        deadline = time.monotonic() + PATIENCE / 1000
        while not condition():
            assert time.monotonic() < deadline, f"still not true: {what}"
            self.page.wait_for_timeout(50)

    def hold(self, pattern: str | re.Pattern[str]) -> list:
        """The requests like this from now on, which the test has to continue."""
        held: list = []
        self.page.route(pattern, lambda route: held.append(route))
        return held

    def screenshot(self, name: str) -> None:
        """Save a picture of the whole page if the variable FACE_LAB_SCREENSHOTS names a folder."""
        if folder := os.environ.get("FACE_LAB_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def slow_down(self, factor: float) -> None:
        """Let the page's scripts run as on a machine that is so many times as slow."""
        self.context.new_cdp_session(self.page).send("Emulation.setCPUThrottlingRate", {"rate": factor})

    def close(self) -> None:
        """Close the page, and others in its context; fail if anything went wrong on it."""
        self.context.close()
        self.check()

    def check(self) -> None:
        """Fail if anything went wrong on the page."""
        assert self.problems == []
        assert self.foreign == []
