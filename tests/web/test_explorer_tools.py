"""The explorer as one file: each of its tools is used as a person would."""

import io
import re
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from PIL import Image

from gan.latent.arithmetic import evaluate_expression, parse_expression
from gan.latent.vectors import draw, slerp
from tests.web.browser import launch
from tests.web.explorer_page import (
    BRIGHTNESS,
    PATIENCE,
    SIDE,
    download,
    image,
    opened,
    opened_page,
    picture,
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
    assert "A random direction has 0.90" in page.get_attribute('.direction:has-text("smile") .leak', "title")
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


def test_a_locked_slider_keeps_its_edit(page, generator, directions):
    z = draw(1, generator.latent_size, 1)[0]
    edited = image(generator, directions.move(z, {"smile": 3}))
    set_slider(page, "smile", 3)
    assert shows(page, edited)
    page.click('[aria-label="lock smile"]')
    set_slider(page, "yaw", 2)
    for _ in range(PATIENCE):
        if np.abs(picture(page) - edited).max() > 2:
            break
        page.wait_for_timeout(50)
    set_slider(page, "yaw", 0)
    assert shows(page, edited)


def structure(picture):
    """What the lock of identity keeps: the brightness of 10 x 10 cells, without its mean and contrast."""
    middle = picture[:, 6:26, 6:26].transpose(1, 2, 0) @ (0.299, 0.587, 0.114)
    cell = np.minimum(9, (np.arange(20) / 1.92).astype(int))
    means = np.eye(10)[cell] / np.bincount(cell)
    levels = means.T @ middle @ means
    levels -= levels.mean()
    return levels / np.linalg.norm(levels)


def test_a_face_that_cannot_be_measured_is_not_locked(page):
    page.evaluate("""() => {
        lab.picture = lab.engine.picture.bind(lab.engine);
        lab.engine.picture = async () => { throw Error("full"); };
    }""")
    page.click("text=keep identity")
    page.wait_for_selector(".message:has-text('The face cannot be measured: full')")
    page.evaluate("() => { lab.engine.picture = lab.picture; }")
    page.wait_for_selector("button:text-is('keep identity'):enabled")
    assert state(page)["face"]["locks"] == []
    page.click("text=keep identity")
    page.wait_for_selector('button[aria-pressed="true"]:text-is("keep identity"):enabled', timeout=60_000)


def test_the_lock_of_identity_keeps_the_structure_of_the_face_for_the_same_effect(
    page, generator, directions
):
    page.click("text=keep identity")
    until(page, "lab.directions.hasIdentity('1.0')")
    start = draw(1, generator.latent_size, 1)[0]
    changes = []
    for name in directions.names:
        face = {"base": "1.0", "shift": {name: 0.7}, "locks": ["identity"]}
        locked = np.array(page.evaluate("(face) => Array.from(lab.vector(face))", face), np.float32)
        free = directions.move(start, {name: 0.7})
        along = [directions[name].vector @ (to_u(z) - to_u(start)) for z in (locked, free)]
        assert along == pytest.approx([0.7, 0.7], abs=1e-3)
        before = structure(image(generator, start))
        changes.append([np.linalg.norm(structure(image(generator, z)) - before) for z in (locked, free)])
    kept, changed = np.mean(changes, 0)
    assert kept < 0.7 * changed


def to_u(z):
    return np.array([NormalDist().inv_cdf((1 + float(value)) / 2) for value in z])


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
    assert re.fullmatch(r"glasses 1\.\d\d, yaw [01]\.\d\d", page.inner_text("#tool-pad output"))


def test_a_face_that_is_dragged_across_the_pad_moves_nothing(page):
    page.click("#tab-pad")
    page.drag_and_drop(tile(9), ".pad")
    assert state(page)["face"] == {"base": "1.0", "shift": {}, "locks": []}


def test_the_pad_offers_the_directions_of_the_moment(page, directions):
    vector = encode_vector(directions["smile"].vector.astype(np.float32))
    for name in ("mine", "yours"):
        page.evaluate("(own) => lab.store.change({ own: [own] })", {"name": name, "text": vector})
        for select in page.locator("#tool-pad select").all():
            assert select.locator("option").last.text_content() == name


def test_a_morph_plays_and_is_saved(page, generator):
    page.click("#tab-morph")
    assert page.is_disabled("text=Play")
    for number, place in ((4, 0), (5, 1)):
        page.drag_and_drop(tile(number), slot(place))
    a, b = draw(6, generator.latent_size, 1)[4:]
    assert shows(page, image(generator, a), "#tool-morph canvas")
    position = "document.querySelector('#tool-morph input[type=range]').value"
    page.fill('#tool-morph input[type="number"]', "20")  # a frame's step is less than the slider's
    page.click("text=Play")
    until(page, f"{position} > 0.005")
    page.click("text=Pause")
    page.evaluate(f"{position} = 0")
    page.fill('#tool-morph input[type="number"]', "0.4")
    page.click("text=Play")
    until(page, f"{position} > 0.3")
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
    button = "#tool-morph button:has-text('Save MP4'), #tool-morph button:has-text('Save WEBM')"
    can_record = page.evaluate(
        "['video/mp4', 'video/webm'].some((type) => window.MediaRecorder?.isTypeSupported(type))"
    )
    assert page.locator(button).is_visible() == bool(can_record)
    if can_record:
        data, name = download(page, button)
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


def test_a_result_that_finds_no_free_slot_is_not_dropped_in_silence(page):
    page.click("#tab-sum")
    page.fill("#tool-sum input", "3")
    page.evaluate("lab.store.change({ slots: Array(8).fill(lab.store.state.face) })")
    page.drag_and_drop("#tool-sum .tile", "#tool-sum input")
    assert "empty a slot" in page.inner_text(".message")
    assert page.input_value("#tool-sum input") == "3"


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
    for name in ("constructor", "identity"):
        page.fill("#tool-label input[type=text]", name)
        page.click("text=Make the direction")
        assert f"The page uses {name} for something else" in page.inner_text(".message")
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
