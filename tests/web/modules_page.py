"""A page in a real browser, on which single modules of the explorer are called."""

from __future__ import annotations

import mimetypes

import numpy as np

from web.page_file import STATIC

ADDRESS = "http://page.test"


def modules_page(browser):
    """A page on which the modules can be imported, for a fixture; nothing else is answered."""
    page = browser.new_page()

    def answer(route):
        path = route.request.url.removeprefix(f"{ADDRESS}/static/")
        file = STATIC / path
        if route.request.url == f"{ADDRESS}/":
            route.fulfill(body="<!doctype html>", content_type="text/html")
        elif file.is_file():
            kind = "text/javascript" if path.endswith(".js") else mimetypes.guess_type(path)[0]
            route.fulfill(body=file.read_bytes(), content_type=kind)
        else:
            route.abort()

    page.route("**/*", answer)
    page.goto(f"{ADDRESS}/")
    return page


def run(page, module: str, code: str, argument=None):
    """The value of an expression of the module `m` and of `a`, the argument."""
    source = f"""async (a) => {{ const m = await import("/static/explorer/{module}.js"); return {code}; }}"""
    return page.evaluate(source, argument)


def floats(z):
    return [float(value) for value in np.ravel(z)]
