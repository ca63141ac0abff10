"""The explorer as one file, opened from disk without network: each of its parts is used as a person would."""

import io
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan.export.page_weights import page_weights
from gan.latent.arithmetic import evaluate_expression, parse_expression
from gan.latent.vectors import draw, slerp
from tests.web.browser import launch
from tests.web.made_generator import made_directions, made_generator
from web.page_file import save_page

PHONE, DESKTOP = {"width": 390, "height": 780}, {"width": 1280, "height": 900}
SIDE = 32
BRIGHTNESS = """lab.picture(lab.store.state.face).then(({ data }) => {
    const levels = data.filter((_, i) => i % 4 < 3);
    return levels.reduce((sum, level) => sum + level) / levels.length;
})"""
PATIENCE = 400
"""Times 50 ms to wait for a page, on a slow machine."""


@pytest.fixture(scope="module")
def generator():
    return made_generator()


@pytest.fixture(scope="module")
def directions(generator):
    return made_directions(generator)


@pytest.fixture(scope="module")
def file(generator, directions, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "faces of mine.html"
    save_page(page_weights(generator, directions), "Faces <of> mine", path)
    return path


browser = pytest.fixture(scope="module")(launch)


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


@pytest.fixture
def page(browser, file):
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


def test_the_file_is_small_and_has_no_path_of_this_machine(file):
    text = file.read_text()
    assert len(text) < 12e6
    assert str(Path.home()) not in text
    assert "://" not in re.sub(r"http://www.w3.org/|https?://[\w./-]*\s", "", text.split("<script")[0])


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
    page.fill("#seed", "-3")
    page.press("#seed", "Enter")
    assert page.input_value("#seed") == "77"


def test_sliders_move_the_face_as_directions_do(page, generator, directions):
    z = draw(18, generator.latent_size, 1)[17]
    page.click(tile(17))
    assert shows(page, image(generator, z))
    set_slider(page, "smile", 2)
    set_slider(page, "yaw", -1.5)
    moved = directions.move(z, {"smile": 2, "yaw": -1.5})
    assert np.abs(image(generator, moved) - image(generator, z)).max() > 20
    assert shows(page, image(generator, moved))
    row = page.locator(".direction", has_text="smile").inner_text()
    assert "2.00" in row
    assert "leak 0.20" in row
    assert "random 0.90" in row
    assert page.locator(".direction", has_text="sefa 1").count() == 1


def test_locks_change_what_a_slider_does(page, generator, directions):
    set_slider(page, "smile", 3)
    z = draw(1, generator.latent_size, 1)[0]
    free = image(generator, directions.move(z, {"smile": 3}))
    assert shows(page, free)
    page.click("text=keep identity")
    page.wait_for_selector('button[aria-pressed="true"]:has-text("keep identity")', timeout=60_000)
    assert state(page)["face"]["locks"] == ["identity"]
    for _ in range(PATIENCE):
        if changed := np.abs(picture(page) - free).max() > 2:
            break
        page.wait_for_timeout(50)
    assert changed
    page.click('[aria-label="lock smile"]')
    assert page.is_disabled('input[aria-label="smile"]')
    page.click("text=keep pose")
    assert page.is_disabled('input[aria-label="yaw"]')
    assert set(state(page)["face"]["locks"]) == {"identity", "smile", "pose"}


def test_the_pad_moves_two_directions(page, generator, directions):
    page.click("#tab-pad")
    page.select_option("#tool-pad select >> nth=0", "glasses")
    page.select_option("#tool-pad select >> nth=1", "yaw")
    box = page.locator(".pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 5 / 6, box["y"] + box["height"] / 3, steps=4)
    page.mouse.up()
    shift = state(page)["face"]["shift"]
    assert (shift["glasses"], shift["yaw"]) == (pytest.approx(2, abs=0.1), pytest.approx(1, abs=0.1))
    z = draw(1, generator.latent_size, 1)[0]
    assert shows(page, image(generator, directions.move(z, shift)))
    corner = directions.move(z, {"glasses": -3, "yaw": 3})
    assert shows(page, image(generator, corner), ".pad .map canvas:first-child")
    page.press(".pad", "ArrowLeft")
    assert state(page)["face"]["shift"]["glasses"] == pytest.approx(shift["glasses"] - 0.25)


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


def download(page, button):
    with page.expect_download(timeout=60_000) as started:
        page.click(button)
    return Path(started.value.path()).read_bytes(), started.value.suggested_filename


def test_a_morph_plays_and_is_saved(page, generator):
    page.click("#tab-morph")
    assert page.is_disabled("text=Play")
    for number, place in ((4, 0), (5, 1)):
        page.drag_and_drop(tile(number), slot(place))
    page.fill('#tool-morph input[type="number"]', "0.4")
    a, b = draw(6, generator.latent_size, 1)[4:]
    assert shows(page, image(generator, a), "#tool-morph canvas")
    page.click("text=Play")
    until(page, "document.querySelector('#tool-morph input[type=range]').value > 0.3")
    page.click("text=Pause")
    data, name = download(page, "text=Save GIF")
    assert name == "morph.gif"
    with Image.open(io.BytesIO(data)) as film:
        assert (film.n_frames, film.size) == (10, (192, 192))
        film.seek(5)
        middle = np.asarray(film.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)).transpose(2, 0, 1)
    assert np.corrcoef(middle.ravel(), image(generator, b).ravel())[0, 1] > 0.8
    half = page.evaluate("lab.vector(lab.store.state.slots[0])[0]")
    assert half == pytest.approx(float(a[0]))
    if page.locator(
        "#tool-morph button:has-text('Save MP4'), #tool-morph button:has-text('Save WEBM')"
    ).is_visible():
        data, name = download(
            page, "#tool-morph button:has-text('Save MP4'), #tool-morph button:has-text('Save WEBM')"
        )
        assert (b"ftyp" in data[:16]) if name == "morph.mp4" else data.startswith(b"\x1aE\xdf\xa3")
        assert len(data) > 1000
    page.eval_on_selector(
        "#tool-morph input[type=range]",
        "(place) => { place.value = 0.25; place.dispatchEvent(new Event('input')); }",
    )
    page.click("text=Edit this face")
    assert shows(page, image(generator, slerp(a, b, 0.5)))


def test_a_sum_of_faces_and_directions(page, generator, directions):
    page.click("#tab-sum")
    text = "3,17 - 5 + 1.5*smile"
    page.fill("#tool-sum input", text)
    faces = draw(64, generator.latent_size, 1)
    z = evaluate_expression(parse_expression(text, 64, directions), faces, directions)
    assert shows(page, image(generator, z), "#tool-sum canvas")
    page.click("#tool-sum .tile")
    assert shows(page, image(generator, z))
    assert state(page)["face"]["shift"] == {"smile": 1.5}
    page.fill("#tool-sum input", "3,17 - 99")
    assert ">>99<<" in page.inner_text("#tool-sum .wrong")
    assert page.is_disabled("#tool-sum .tile")
    page.fill("#tool-sum input", "3 - 70")
    assert "slot 7, whose number is 70, is empty" in page.inner_text("#tool-sum .wrong")


def test_exemplars_are_dragged_into_a_sum(page):
    page.click("#tab-sum")
    page.fill("#tool-sum input", "")
    page.drag_and_drop(tile(8), "#tool-sum input")
    page.drag_and_drop(tile(12), "#tool-sum input")
    page.keyboard.type(" - ")
    page.drag_and_drop(tile(30), slot(1))
    page.drag_and_drop(slot(1), "#tool-sum input")
    assert page.input_value("#tool-sum input") == "8,12 - 65"
    assert page.inner_text("#tool-sum .wrong") == ""


def test_labelled_faces_give_a_direction(page, browser, file, generator):
    page.click("#tab-label")
    brightness = generator.images(draw(64, generator.latent_size, 1)).mean((1, 2, 3))
    order = [int(number) for number in np.argsort(brightness)]
    for number in order[:10]:
        page.click(tile(number))
        page.click(tile(number))
    for number in order[-10:]:
        page.click(tile(number))
    assert "10 with it, 10 without" in page.inner_text("#tool-label")
    assert page.get_attribute(tile(order[0]), "data-label") == "minus"
    page.fill("#tool-label input[type=text]", "no name!")
    page.click("text=Make the direction")
    assert "Give the direction a name" in page.inner_text(".message")
    page.fill("#tool-label input[type=text]", "smile")
    page.click("text=Make the direction")
    assert "There is a direction smile already" in page.inner_text(".message")
    page.fill("#tool-label input[type=text]", "very bright")
    page.press("#tool-label input[type=text]", "Enter")
    brighter = []
    for number in order[20:44:6]:
        page.click(tile(number))
        levels = []
        for strength in (-2, 2):
            set_slider(page, "very bright", strength)
            levels.append(page.evaluate(BRIGHTNESS))
        brighter.append(levels[1] - levels[0])
    assert np.mean(brighter) > brightness.std()
    address = page.evaluate("location.hash")
    assert "own=very_bright" in address
    with opened(
        page.context.browser,
        Path(page.url.split("#")[0].removeprefix("file://").replace("%20", " ")),
        address,
    ) as again:
        assert again.locator(".direction", has_text="very bright").count() == 1
    page.click("#tab-label")
    page.click("text=Remove very_bright")
    assert page.locator(".direction", has_text="very bright").count() == 0


def test_undo_redo_and_the_address(page, browser, file, generator, directions):
    assert page.is_disabled("#undo")
    page.click(tile(6))
    set_slider(page, "smile", 2.5)
    page.drag_and_drop(tile(7), slot(4))
    address = page.evaluate("location.hash")
    z = directions.move(draw(7, generator.latent_size, 1)[6], {"smile": 2.5})
    page.keyboard.press("Control+z")
    page.click("#undo")
    assert state(page)["face"]["shift"] == {}
    page.keyboard.press("Control+Shift+Z")
    assert shows(page, image(generator, z))
    with opened(browser, file, address) as again:
        assert shows(again, image(generator, z))
        assert shows(again, image(generator, draw(8, generator.latent_size, 1)[7]), f"{slot(4)} canvas")


def drop_file(page, data, name="face.png", kind="image/png"):
    code = """([bytes, name, type]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(bytes)], name, { type }));
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent("drop", options));
    }"""
    page.evaluate(code, [list(data), name, kind])


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
        again.wait_for_selector(".message.bad:has-text('contains no state')")


def test_a_picture_of_another_generator_is_said(browser, file):
    with opened(browser, file, "#g=0&seed=4&face=4.2~unknown:1") as page:
        assert "another generator" in page.inner_text(".message")
        assert state(page)["face"]["base"] == "4.2"


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
    page.keyboard.press("k")
    assert state(page)["slots"][0]["base"] == "1.9"
    page.focus('input[aria-label="smile"]')
    page.keyboard.press("ArrowRight")
    assert state(page)["face"]["shift"]["smile"] == pytest.approx(0.05)
    page.keyboard.press("0")
    assert state(page)["face"]["shift"] == {}
    page.keyboard.press("n")
    assert state(page)["seed"] == 2
    page.focus("#tab-sliders")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-pad", "aria-selected") == "true"
    assert page.is_visible("#tool-pad")


def test_a_phone_in_the_dark(browser, file):
    with opened(browser, file, viewport=PHONE, color_scheme="dark", has_touch=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        for tab in ("pad", "morph", "sum", "label"):
            page.tap(f"#tab-{tab}")
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        levels = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert max(levels) < 60
        page.tap("#tab-sliders")
        page.tap(tile(20))
        page.tap("#keep")
        assert state(page)["slots"][0]["base"] == "1.20"


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
    weights = re.search(r'id="weights">([^<]*)<', file.read_text())[1]
    damaged.write_text(file.read_text().replace(weights, weights[: len(weights) // 8 * 4]))
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(damaged.as_uri())
    page.wait_for_selector("text=The explorer cannot start")
    context.close()
