"""The explorer as one file, opened from disk without network, and what a person does on it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gan.export.page_weights import page_weights
from web.page_file import save_page

PHONE, DESKTOP = {"width": 390, "height": 780}, {"width": 1280, "height": 900}
SIDE = 32
BRIGHTNESS = """lab.picture(lab.store.state.face).then(({ data }) => {
    const levels = data.filter((_, i) => i % 4 < 3);
    return levels.reduce((sum, level) => sum + level) / levels.length;
})"""
PATIENCE = 1200
"""Times 50 ms to wait for a page, on a slow machine."""


def saved(generator, directions, tmp_path_factory) -> Path:
    """The page of a generator as a file, for a fixture of a module."""
    path = tmp_path_factory.mktemp("page") / "faces of mine.html"
    save_page(page_weights(generator, directions), "Faces <of> mine", path)
    return path


@contextmanager
def opened(browser, file, address="", **options):
    """The page of the file, offline; fails on any error or request."""
    context = browser.new_context(offline=True, accept_downloads=True, **({"viewport": DESKTOP} | options))
    context.set_default_timeout(60_000)
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    allowed = (file.as_uri(), "blob:", "data:")
    page.on("request", lambda asked: asked.url.startswith(allowed) or problems.append(asked.url))
    page.goto(f"{file.as_uri()}{address}")
    page.wait_for_selector("#explorer:not([hidden])", timeout=60_000)
    yield page
    context.close()
    assert problems == []


def opened_page(browser, file):
    """The page of the file, for a fixture."""
    with opened(browser, file) as page:
        yield page


def picture(page, selector="#face"):
    """The picture of a canvas, uint8 [3, S, S]."""
    code = (
        "(canvas) => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"
    )
    values = np.array(page.eval_on_selector(selector, code), np.uint8)
    return values.reshape(SIDE, SIDE, 4)[..., :3].transpose(2, 0, 1)


def until(page, code):
    """Wait until code is true; the page's security policy forbids playwright's own way."""
    for _ in range(PATIENCE):
        if page.evaluate(code):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {code}")


def shows(page, image, selector="#face", tolerance=2):
    """Wait until a canvas shows this picture."""
    for _ in range(PATIENCE):
        if np.abs(picture(page, selector).astype(int) - image).max() <= tolerance:
            return True
        page.wait_for_timeout(50)
    return False


def image(generator, z):
    return generator.images(z[None])[0].astype(int)


def set_slider(page, name, value):
    code = """(slider, value) => {
        slider.value = value;
        slider.dispatchEvent(new Event("input"));
        slider.dispatchEvent(new Event("change"));
    }"""
    page.eval_on_selector(f'input[aria-label="{name}"]', code, value)


def state(page):
    return page.evaluate("lab.store.state")


def tile(number):
    return f'#wall [aria-label="Face {number}"]'


def slot(number):
    return f"#slots .slot:nth-child({number + 1}) .tile"


def download(page, button):
    with page.expect_download(timeout=60_000) as started:
        page.click(button)
    return Path(started.value.path()).read_bytes(), started.value.suggested_filename


def drop_file(page, data, name="face.png", kind="image/png"):
    code = """([bytes, name, type]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(bytes)], name, { type }));
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent("drop", options));
    }"""
    page.evaluate(code, [list(data), name, kind])
