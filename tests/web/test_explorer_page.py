"""The explorer as one file: the page as a whole, from a phone to the keyboard."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gan.export.page_weights import page_weights
from gan.latent.vectors import draw
from tests.web.browser import launch
from tests.web.explorer_page import (
    PHONE,
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
from web.page_file import save_page

browser = pytest.fixture(scope="module")(launch)
generator = pytest.fixture(scope="module")(made_generator)
directions = pytest.fixture(scope="module")(made_directions)
file = pytest.fixture(scope="module")(saved)
page = pytest.fixture(opened_page)


def stored(file) -> bytes:
    """What the page computes with."""
    return base64.b64decode(re.search(r'id="weights">([^<]*)<', file.read_text())[1])


def test_the_file_is_small_and_has_no_path_of_this_machine(file, generator):
    text = file.read_text()
    assert len(text) < 12e6
    assert stored(file)[8:].startswith(b'{"__metadata__"')
    for path in map(str, (Path.home(), generator.checkpoint, file.parent)):
        assert path not in text
        assert path.encode() not in stored(file)


def test_the_file_names_no_other_place(file):
    assert re.findall(r"\w+://[^\s\"'`)]*", file.read_text()) == []


def test_the_wall_shows_the_faces_of_sample(page, generator):
    expected = generator.images(draw(64, generator.latent_size, generator.seed)).astype(int)
    for number in (0, 17, 63):
        assert shows(page, expected[number], f"{tile(number)} canvas")
    assert page.title() == "Faces <of> mine"
    assert page.input_value("#seed") == "1"


def test_another_seed_gives_another_wall(page, generator):
    page.click("#next")
    assert shows(page, image(generator, draw(6, generator.latent_size, 2)[5]), f"{tile(5)} canvas")
    page.fill("#seed", "77")
    page.press("#seed", "Enter")
    assert shows(page, image(generator, draw(6, generator.latent_size, 77)[5]), f"{tile(5)} canvas")
    for text in ("-3", "1.5", "", str(2**63)):
        page.fill("#seed", text)
        page.press("#seed", "Enter")
        assert page.input_value("#seed") == "77"
        said = page.inner_text(".message")
        assert (text or "A wall needs a seed") in said
        assert f"a whole number from 0 to {2**63 - 1}" in said
        page.evaluate("document.querySelector('.message').remove()")


def test_a_seed_beyond_the_precision_of_a_number_is_exact(browser, generator, directions, tmp_path):
    seed = 2**63 - 3
    generator = replace(generator, settings=replace(generator.settings, seed=seed))
    save_page(page_weights(generator, directions), "Faces", tmp_path / "page.html")
    with opened(browser, tmp_path / "page.html") as page:
        faces = draw(6, generator.latent_size, seed)
        assert page.input_value("#seed") == str(seed)
        assert shows(page, image(generator, faces[0]))
        page.click(tile(5))
        address = page.evaluate("location.hash")
        page.click("#next")
        assert page.input_value("#seed") == str(seed + 1)
    with opened(browser, tmp_path / "page.html", address) as page:
        assert state(page)["face"]["base"] == f"{seed}.5"
        assert shows(page, image(generator, faces[5]))


def test_faces_are_dragged_to_slots_and_back(page, generator):
    page.drag_and_drop(tile(9), slot(2))
    page.drag_and_drop(slot(2), slot(0))
    z = draw(10, generator.latent_size, 1)[9]
    assert shows(page, image(generator, z), f"{slot(0)} canvas")
    page.drag_and_drop(tile(3), "#stage")
    assert state(page)["face"]["base"] == "1.3"
    page.click(slot(0))
    assert state(page)["face"]["base"] == "1.9"
    page.hover(slot(2))
    page.click('[aria-label="Empty slot 3"]')
    assert [face and face["base"] for face in state(page)["slots"]] == ["1.9", *[None] * 7]


def test_before_and_after_with_a_wiper(page, generator, directions):
    set_slider(page, "smile", 3)
    page.keyboard.press("b")
    assert page.is_visible("#wiper")
    assert shows(page, image(generator, draw(1, generator.latent_size, 1)[0]), "#before")
    page.eval_on_selector("#wiper", "(w) => { w.value = 100; w.dispatchEvent(new Event('input')); }")
    assert (
        page.evaluate("getComputedStyle(document.getElementById('face')).clipPath")
        == "inset(0px 0px 0px 100%)"
    )
    page.keyboard.press("b")
    assert not page.is_visible("#wiper")


def test_the_keyboard_is_enough(page):
    page.focus(tile(0))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert state(page)["face"]["base"] == "1.9"
    page.keyboard.press("3")
    assert state(page)["slots"][2]["base"] == "1.9"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.keyboard.press("k")
    assert state(page)["slots"][0]["base"] == "1.10"
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("n")  # keys belong to the dialog now
    page.keyboard.press("Control+z")
    page.keyboard.press("Escape")
    assert page.is_hidden("#help")
    assert page.input_value("#seed") == "1"
    assert state(page)["slots"][0]["base"] == "1.10"
    page.focus('input[aria-label="smile"]')
    page.keyboard.press("ArrowRight")
    assert state(page)["face"]["shift"]["smile"] == pytest.approx(0.05)
    page.keyboard.press("0")
    assert state(page)["face"]["shift"] == {}
    page.keyboard.press("n")
    assert state(page)["seed"] == "2"
    assert page.inner_text("#face-name") == "no. 10, seed 1"
    page.focus("#tab-sliders")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-pad", "aria-selected") == "true"
    assert page.is_visible("#tool-pad")


def test_a_phone_in_the_dark(browser, file):
    with opened(browser, file, viewport=PHONE, color_scheme="dark", has_touch=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        for tab in ("pad", "morph", "sum", "label"):
            page.tap(f"#tab-{tab}")
            until(page, f"lab.store.state.tool === '{tab}'")
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        levels = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert max(levels) < 60
        page.tap("#tab-sliders")
        page.tap(tile(20))
        page.tap("#keep")
        until(page, "lab.store.state.slots[0]?.base === '1.20'")


def test_on_a_slow_machine_the_last_move_wins(page, generator, directions):
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 8})
    page.eval_on_selector(
        'input[aria-label="smile"]',
        """(slider) => {
            for (let i = 0; i <= 100; i++) {
                slider.value = -3 + 0.055 * i;
                slider.dispatchEvent(new Event("input"));
            }
        }""",
    )
    z = directions.move(draw(1, generator.latent_size, 1)[0], {"smile": 2.5})
    assert shows(page, image(generator, z))
    page.wait_for_timeout(200)
    assert shows(page, image(generator, z))


def test_a_page_with_a_damaged_generator_says_so(browser, file, tmp_path):
    damaged = tmp_path / "damaged.html"
    weights = base64.b64encode(stored(file)).decode()
    damaged.write_text(file.read_text().replace(weights, weights[: len(weights) // 8 * 4]))
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(damaged.as_uri())
    page.wait_for_selector("text=The explorer cannot start")
    context.close()
