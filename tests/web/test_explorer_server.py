"""The explorer on its server, in a browser: what the file of export.py does not have."""

import io
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from engine.png import to_pillow
from gan.export.generator_file import save_generator
from gan.generator import load_generator
from gan.inversion.encoder import train_encoder
from gan.latent.vectors import draw
from lab.fitting import PhotoFitter
from tests.web.browser import Visit, launch
from tests.web.explorer_client import Fitter, replace_weights
from tests.web.explorer_page import drop_file, tile
from tests.web.made_generator import made_generator
from tests.web.serving import serving
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
    asked = visit.hold("**/api/explorer/nearest?*")
    visit.page.click(tile(5))
    visit.page.click("#nearest")
    visit.wait_until(lambda: asked, "the nearest are asked for")
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
    assert visit.page.inner_text("#face-name") == "photo"
    visit.page.click(tile(3))
    assert visit.page.inner_text("#face-name") == "no. 3"
    visit.page.click("#undo")
    assert visit.page.inner_text("#face-name") == "photo"
    monkeypatch.setattr("web.photo_faces.MAX_PIXELS", 10)
    drop_file(visit.page, photo.getvalue(), "me.png")
    visit.page.wait_for_selector(".message.bad:has-text('cannot be used')")
    # The browser reports the server's refusal as an error of its own.
    visit.problems = [problem for problem in visit.problems if "400" not in problem]


def test_a_second_photo_gives_up_the_first(visit):
    given_up = []
    visit.page.on("requestfailed", lambda request: given_up.append(request.url))
    held = visit.hold("**/api/explorer/photo?*")
    visit.page.wait_for_selector("#tab-photo:not([hidden])")
    drop_file(visit.page, b"\x89PNG\r\n\x1a\n", "me.png")
    visit.wait_until(lambda: held, "the first is sent")
    drop_file(visit.page, b"\x89PNG\r\n\x1a\n", "you.png")
    visit.wait_until(lambda: len(held) == 2 and given_up, "the second is sent, and the first given up")
    assert len(given_up) == 1
    visit.page.wait_for_selector("#tool-photo :text('Looking for the face')")


def fast_fitter(generator, progress):
    """Fits the centre of the photo, because a generator without training has no faces to detect."""
    return PhotoFitter(generator, fit="fast", whole_image=True, progress=progress)


def test_the_first_photo_trains_an_encoder_and_shows_how_far_it_is(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", fast_fitter)
    trained, go_on = [], threading.Event()

    def train(network, progress):
        trained.append(network)

        def report(share):
            progress(share)
            if share >= 0.4:
                go_on.wait(60)  # until the page has shown it

        return train_encoder(network, steps=80, progress=report)

    monkeypatch.setattr("lab.fitting.train_encoder", train)
    generator = made_generator()
    save_generator(generator, tmp_path / "faces.safetensors")
    photo = io.BytesIO()
    picture = generator.images(draw(1, generator.latent_size, 4))[0]
    to_pillow(picture).resize((200, 200)).save(photo, "PNG")
    with serving(Context(tmp_path / "faces.safetensors", tmp_path)) as address:
        visit = Visit(browser, address)
        page = visit.page
        page.goto(f"{address}/explorer")
        page.wait_for_selector("#tab-photo:not([hidden])", timeout=60_000)
        drop_file(page, photo.getvalue(), "me.png")
        visit.wait(
            "document.querySelector('#tool-photo [role=status]').textContent"
            " === 'Learning to fit photos, once for this generator: 40%'"
        )
        assert page.is_visible("#tool-photo progress")
        go_on.set()
        page.wait_for_selector("#tool-photo :text('dB')", timeout=60_000)
        assert page.is_hidden("#tool-photo progress")
        assert page.inner_text("#face-name") == "photo"
        assert page.evaluate("lab.store.state.face.base").startswith("v")
        assert page.is_visible("#wiper")
        assert (tmp_path / "faces.encoder.safetensors").is_file()
        held = visit.hold("**/api/explorer/photo?*")
        drop_file(page, photo.getvalue(), "me again.png")
        page.wait_for_selector("#tool-photo :text('Looking for the face')")
        visit.wait_until(lambda: held, "the second is sent")
        held.pop().continue_()
        page.wait_for_selector("#tool-photo :text('dB')", timeout=60_000)
        assert len(trained) == 1
        visit.close()


def test_nearest_photos_are_offered_only_where_the_photos_are(visit, browser, tmp_path):
    visit.page.wait_for_selector("#nearest:not([hidden])")
    save_generator(made_generator(), tmp_path / "faces.safetensors")
    with serving(Context(tmp_path / "faces.safetensors", tmp_path)) as address:
        other = Visit(browser, address)
        with other.page.expect_response("**/api/explorer/nearest"):
            other.page.goto(f"{address}/explorer")
        other.page.wait_for_selector("#tab-photo:not([hidden])", timeout=60_000)
        assert other.page.is_hidden("#nearest")
        other.close()


def test_a_tab_of_older_weights_is_told_to_reload(browser, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / tiny_run.name)
    with serving(Context(run)) as address:
        visit = Visit(browser, address)
        page = visit.page
        page.goto(f"{address}/explorer")
        page.wait_for_selector("#nearest:not([hidden])", timeout=60_000)
        page.click(tile(5))
        before = page.evaluate("lab.description.digest")
        replace_weights(run)
        page.click("#nearest")
        page.wait_for_selector(".message:has-text('the run has newer weights: reload the page')")
        page.click(".message >> text=Reload")
        page.wait_for_selector("#nearest:not([hidden])", timeout=60_000)
        assert page.evaluate("lab.description.digest") != before
        assert page.locator(".message:has-text('another generator')").count() == 0
        assert page.evaluate("lab.store.state.face.base").endswith(".5")
        page.click("#nearest")
        page.wait_for_selector("#neighbours img")
        # The browser reports the server's refusal as an error of its own.
        visit.problems = [problem for problem in visit.problems if "409" not in problem]
        visit.close()


def test_what_is_no_photo_is_said_and_of_several_one_is_taken(visit, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", Fitter)
    visit.page.wait_for_selector("#tab-photo")
    drop_file(visit.page, b"hello", "notes.txt", "text/plain")
    visit.page.wait_for_selector(".message:has-text('notes.txt is not a picture')")
    photo = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(photo, "JPEG")
    code = """(bytes) => {
        const transfer = new DataTransfer();
        for (let i = 0; i < 40; i++) {
            transfer.items.add(new File([Uint8Array.from(bytes)], `${i}.jpg`, { type: "image/jpeg" }));
        }
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
    }"""
    visit.page.evaluate(code, list(photo.getvalue()))
    visit.page.wait_for_selector(".message:has-text('Only one photo at a time: 0.jpg is used')")
    visit.page.wait_for_selector("#tool-photo :text('21.3 dB')")


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
