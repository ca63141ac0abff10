"""The explorer on its server, in a browser: what the file of export.py does not have."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from gan.generator import load_generator
from gan.latent.vectors import draw
from tests.web.browser import Visit, launch
from tests.web.explorer_page import drop_file, tile
from tests.web.serving import serving
from tests.web.test_explorer_routes import Fitter
from web.context import Context

browser = pytest.fixture(scope="module")(launch)


@pytest.fixture(scope="module")
def address(tiny_run, tmp_path_factory):
    # The server keeps the page's generator beside a run.
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("served") / tiny_run.name)
    with serving(Context(run)) as address:
        yield address


@pytest.fixture
def visit(browser, address):
    visit = Visit(browser, address, viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    visit.page.goto(f"{address}/explorer")
    visit.page.wait_for_selector("#explorer:not([hidden])", timeout=60_000)
    yield visit
    visit.close()


def test_the_wall_of_the_run(visit, tiny_run):
    generator = load_generator(tiny_run)
    expected = generator.images(draw(18, generator.latent_size, generator.seed))[17].transpose(1, 2, 0)
    code = """({ tile, expected }) => {
        const { data } = document.querySelector(tile).getContext("2d").getImageData(0, 0, 32, 32);
        return expected.every((value, i) => Math.abs(data[4 * Math.floor(i / 3) + (i % 3)] - value) <= 2);
    }"""
    visit.wait(code, {"tile": f"{tile(17)} canvas", "expected": expected.ravel().tolist()})
    assert visit.page.get_attribute('nav a[href="/explorer"]', "aria-current") == "page"
    visit.screenshot("explorer")


def test_the_training_photos_nearest_to_a_face(visit):
    visit.page.click(tile(5))
    visit.page.click("#nearest")
    visit.page.wait_for_selector("#neighbours img")
    assert visit.page.locator("#neighbours img").count() == 6
    distances = [float(text) for text in visit.page.locator("#neighbours figcaption").all_inner_texts()]
    assert distances == sorted(distances)
    visit.page.click(tile(6))
    assert visit.page.is_hidden("#neighbours")


def test_the_nearest_photos_of_a_face_that_was_left_are_dropped(visit):
    asked = []
    visit.page.route("**/api/explorer/nearest", lambda route: asked.append(route))
    visit.page.click(tile(5))
    visit.page.click("#nearest")
    while not asked:
        visit.page.wait_for_timeout(50)
    visit.page.click(tile(6))
    asked.pop().continue_()
    visit.wait("!document.getElementById('nearest').disabled")
    assert visit.page.is_hidden("#neighbours")


def test_a_dropped_photo_becomes_a_face_with_before_and_after(visit, tiny_run, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", Fitter)
    generator = load_generator(tiny_run)
    z = draw(1, generator.latent_size, 4)[0]
    visit.page.wait_for_selector("#tab-photo")
    photo = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(photo, "PNG")
    drop_file(visit.page, photo.getvalue(), "me.png")
    visit.wait("lab.store.state.face.base.startsWith('v')")
    assert visit.page.evaluate("Array.from(lab.vector(lab.store.state.face))") == pytest.approx(z)
    visit.page.wait_for_selector("#tool-photo :text('21.3 dB')")
    assert visit.page.is_visible("#wiper")
    shown = visit.page.evaluate(
        "Array.from(document.getElementById('before').getContext('2d').getImageData(0, 0, 32, 32).data)"
    )
    # The stand-in's crop of the photo is the fitted face itself.
    expected = generator.images(z[None])[0].transpose(1, 2, 0)
    assert np.array_equal(np.reshape(shown, (32, 32, 4))[..., :3], expected)
    monkeypatch.setattr("web.photo_faces.MAX_PIXELS", 10)
    drop_file(visit.page, photo.getvalue(), "me.png")
    visit.page.wait_for_selector(".message.bad:has-text('cannot be used')")
    # The browser reports the server's refusal as an error of its own.
    visit.problems = [problem for problem in visit.problems if "400" not in problem]


def test_two_tabs_do_not_disturb_each_other(visit, browser, address):
    other = Visit(browser, address)
    other.page.goto(f"{address}/explorer#{visit.page.evaluate('location.hash.slice(1)')}")
    other.page.wait_for_selector("#explorer:not([hidden])", timeout=60_000)
    other.page.click(tile(40))
    visit.page.click(tile(41))
    assert other.page.evaluate("lab.store.state.face.base").endswith(".40")
    assert visit.page.evaluate("lab.store.state.face.base").endswith(".41")
    other.close()


def test_without_a_run_the_page_says_how_to_make_one(browser, tmp_path):
    with serving(Context(None, tmp_path)) as address:
        visit = Visit(browser, address)
        visit.page.goto(f"{address}/explorer")
        visit.page.wait_for_selector("text=train_gan.py")
        visit.problems.clear()
        visit.close()
