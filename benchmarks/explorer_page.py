"""Measure how fast a page of `export.py RUN page.html` makes faces, beside torch in this process.

    python -m benchmarks.explorer_page page.html [--faces faces.safetensors]

A slider is moved in headless Chromium, and timed from its event to the pixels on the canvas; a wall
of 64 faces is timed from the click to the last face; and the file from its opening to the first and the last
face. --faces, the same generator, gives torch's times for one face and for 64. Needs playwright and Debian's
chromium.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional

from engine.cli import parse
from engine.errors import UserError, run_script

MOVES = 200
WALLS = 5

MEASURE = """async ([moves, walls]) => {
    const original = CanvasRenderingContext2D.prototype.putImageData;
    let watch = () => {};
    CanvasRenderingContext2D.prototype.putImageData = function (...given) {
        original.apply(this, given);
        watch(this.canvas);
    };
    const until = (isPainted) => new Promise((resolve) => {
        watch = (canvas) => { if (isPainted(canvas)) resolve(); };
    });
    const slider = document.querySelector("#tool-sliders input[type=range]");
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const moved = [];
    for (let i = 0; i < moves; i++) {
        const start = performance.now();
        const ready = until((canvas) => canvas.id === "face");
        slider.value = 3 * Math.sin(i);
        slider.dispatchEvent(new Event("input"));
        await ready;
        moved.push(performance.now() - start);
        await pause(5);
    }
    const wall = [];
    for (let i = 0; i < walls; i++) {
        let left = 64;
        const start = performance.now();
        const ready = until((canvas) => canvas.closest("#wall") && --left === 0);
        document.getElementById("next").click();
        await ready;
        wall.push(performance.now() - start);
        await pause(200);
    }
    return [moved, wall];
}"""
FACES_SHOWN = """(count) => [...document.querySelectorAll("#wall canvas")]
    .filter((canvas) => canvas.getContext("2d").getImageData(9, 9, 1, 1).data[3]).length >= count"""


@dataclass(frozen=True)
class PageArguments:
    """What to measure."""

    page: Annotated[Path, Positional]
    """A file of export.py."""
    faces: Path | None = None
    """The same generator as a .safetensors file."""


def main() -> None:
    """Measure, and print a line for each figure."""
    arguments = parse(PageArguments, description=__doc__)
    if not arguments.page.is_file():
        raise UserError(f"there is no file {arguments.page}")
    print(f"file: {arguments.page.stat().st_size / 1e6:.2f} MB")
    measure_page(arguments.page)
    if arguments.faces:
        measure_torch(arguments.faces)


def measure_page(page: Path) -> None:
    """Print the times of a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_context(offline=True).new_page()
        start = time.perf_counter()
        tab.goto(page.resolve().as_uri())
        for count in (1, 64):
            while not tab.evaluate(FACES_SHOWN, count):
                tab.wait_for_timeout(5)
            print(f"from opening to {count} on the wall: {time.perf_counter() - start:.2f} s")
        moved, wall = tab.evaluate(MEASURE, [MOVES, WALLS])
        p50, p95 = np.percentile(moved, [50, 95])
        print(f"from slider to pixels, of {MOVES}: median {p50:.1f} ms, 95th percentile {p95:.1f} ms")
        print(f"64 faces, of {WALLS}: median {np.median(wall):.0f} ms, slowest {max(wall):.0f} ms")
        browser.close()


def measure_torch(file: Path) -> None:
    """Print torch's times of the same work."""
    from gan.export.generator_file import load_generator_file
    from gan.latent.vectors import draw

    generator = load_generator_file(file)
    for count, repetitions in ((1, 50), (64, 5)):
        z = draw(count, generator.latent_size, 0)
        times = []
        for _ in range(repetitions):
            start = time.perf_counter()
            generator.images(z)
            times.append(1000 * (time.perf_counter() - start))
        print(f"torch, {count} faces: median {np.median(times):.1f} ms")


if __name__ == "__main__":
    run_script(main)
