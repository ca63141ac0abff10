"""The explorer as one file: its state in undo, in the URL and in saved pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from gan.latent.vectors import draw
from tests.web.browser import launch
from tests.web.explorer_page import (
    download,
    drop_file,
    image,
    opened,
    opened_page,
    saved,
    set_slider,
    shows,
    slot,
    state,
    tile,
    until,
)
from tests.web.made_generator import made_directions, made_generator
from web.text import encode_vector

browser = pytest.fixture(scope="module")(launch)
generator = pytest.fixture(scope="module")(made_generator)
directions = pytest.fixture(scope="module")(made_directions)
file = pytest.fixture(scope="module")(saved)
page = pytest.fixture(opened_page)


def test_undo_redo_and_the_address(page, browser, file, generator, directions):
    assert page.is_disabled("#undo")
    page.click(tile(6))
    set_slider(page, "smile", 2.5)
    page.drag_and_drop(tile(7), slot(4))
    address = page.evaluate("location.hash")
    z = directions.move(draw(7, generator.latent_size, 1)[6], {"smile": 2.5})
    page.click("#tab-pad")
    page.keyboard.press("Control+z")
    page.click("#undo")
    assert state(page)["face"]["shift"] == {}
    assert page.is_visible("#tool-pad")
    page.keyboard.press("Control+Shift+Z")
    assert shows(page, image(generator, z))
    with opened(browser, file, address) as again:
        assert shows(again, image(generator, z))
        assert shows(again, image(generator, draw(8, generator.latent_size, 1)[7]), f"{slot(4)} canvas")


def test_a_saved_picture_contains_the_state(page, browser, file, generator, directions):
    page.click(tile(11))
    set_slider(page, "glasses", -2)
    page.drag_and_drop(tile(7), slot(4))
    z = directions.move(draw(12, generator.latent_size, 1)[11], {"glasses": -2})
    assert shows(page, image(generator, z))
    data, _ = download(page, "#save")
    saved = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)
    assert np.abs(saved.astype(int) - image(generator, z)).max() <= 2
    with opened(browser, file) as again:
        drop_file(again, data)
        until(again, "lab.store.state.face.base === '1.11'")
        assert shows(again, image(generator, z))
        assert state(again)["slots"][4]["base"] == "1.7"
        again.click("#undo")
        assert state(again)["face"]["base"] == "1.0"
        plain = io.BytesIO()
        Image.new("RGB", (8, 8)).save(plain, "PNG")
        drop_file(again, plain.getvalue())
        again.wait_for_selector(".message.bad:has-text('nothing in it to restore')")


def test_a_picture_of_another_generator_is_said(browser, file):
    with opened(browser, file, "#g=0&seed=4&face=4.2~unknown:1") as page:
        assert "another generator" in page.inner_text(".message")
        assert state(page)["face"]["base"] == "4.2"


def test_the_lock_of_identity_is_restored(page, browser, file, generator, directions):
    set_slider(page, "smile", 3)
    page.click("text=keep identity")
    until(page, "lab.directions.hasIdentity('1.0')")
    page.drag_and_drop(tile(7), slot(0))
    z = page.evaluate("Array.from(lab.vector(lab.store.state.face))")
    locked = image(generator, np.array(z, np.float32))
    free = image(generator, directions.move(draw(1, generator.latent_size, 1)[0], {"smile": 3}))
    assert np.abs(locked - free).max() > 10
    with opened(browser, file, page.evaluate("location.hash")) as again:
        assert shows(again, locked)
        again.wait_for_selector("button:text-is('keep identity'):enabled")
        again.click("text=keep identity")
        assert shows(again, free)


def test_faces_are_drawn_again_when_a_direction_is_learnt_again(page, generator, directions):
    learn = """(vector) => lab.store.change({ own: [{ name: "mine", text: vector }] })"""
    vectors = [encode_vector(directions[name].vector.astype(np.float32)) for name in ("smile", "yaw")]
    page.evaluate(learn, vectors[0])
    page.evaluate("""lab.store.change({
        face: { base: "1.3", shift: { mine: 3 }, locks: [] }, pad: ["mine", "glasses"],
        slots: lab.store.state.slots.with(0, { base: "1.3", shift: { mine: -3 }, locks: [] }).with(
            1, { base: "1.4", shift: { mine: 3 }, locks: [] }),
        sum: "3 + 3*mine",
    })""")
    third, fourth = draw(5, generator.latent_size, 1)[3:]
    for vector, name in zip(vectors, ("smile", "yaw"), strict=True):
        page.evaluate(learn, vector)
        forward, back = (image(generator, directions.move(third, {name: by})) for by in (3, -3))
        assert shows(page, forward)
        assert shows(page, back, f"{slot(0)} canvas")
        assert shows(page, image(generator, directions.move(fourth, {name: 3})), f"{slot(1)} canvas")
        page.click("#tab-sum")
        assert shows(page, forward, "#tool-sum canvas")
        page.click("#tab-morph")
        assert shows(page, back, "#tool-morph canvas")
        page.click("#tab-pad")
        corner = directions.move(third, {name: -3, "glasses": 3})
        assert shows(page, image(generator, corner), ".pad .map canvas:first-child")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("#nonsense", "The address contains no state of this page"),
        ("#seed=x&face=4.2~smile:1~wide:2", "the seed. This generator has no direction wide."),
        ("#seed=4&face=4.2~smile:1~yaw:x", "an edit of the face."),
    ],
)
def test_an_address_that_is_broken_in_part_says_so_and_the_rest_is_shown(address, said, browser, file):
    with opened(browser, file, address) as page:
        message = page.inner_text(".message")
        assert said in message
        assert "\n" not in message
        valid = "face=" in address
        assert state(page)["face"]["base"] == ("4.2" if valid else "1.0")
        assert state(page)["face"]["shift"].get("smile") == (1 if valid else None)
        # The same if it is typed while the page is open, even if the page's state is written just after.
        page.evaluate("document.querySelector('.message').remove()")
        page.evaluate(
            """(hash) => {
                const written = location.hash;
                location.hash = hash;
                history.replaceState(null, "", written);
            }""",
            address,
        )
        page.wait_for_selector(".message")
        assert said in page.inner_text(".message")
        assert page.evaluate("location.hash").startswith("#g=")


def test_an_address_of_this_page_says_nothing(page, browser, file):
    set_slider(page, "smile", 2.5)
    with opened(browser, file, page.evaluate("location.hash")) as again:
        assert again.locator(".message").count() == 0


def test_a_reload_shows_the_same_tool_and_a_double_click_keeps_one_face(page):
    page.dblclick(tile(9))
    page.dblclick("#keep")
    assert [face and face["base"] for face in state(page)["slots"]] == ["1.9", *[None] * 7]
    page.wait_for_selector(".message:has-text('already kept, in slot 1')")
    page.click("#tab-morph")
    until(page, "location.hash.includes('tool=morph')")
    page.reload()
    page.wait_for_selector("#explorer:not([hidden])")
    assert page.is_visible("#tool-morph")
    assert state(page)["face"]["base"] == "1.9"
