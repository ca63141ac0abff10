"""The recogniser page in a real browser: everything on it is used as a person would."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from engine.png import load_png, to_pillow
from faces.recognition.class_threshold import save_threshold
from faces.recognition.gallery import load_gallery
from faces.recognition.open_set import measure
from faces.recognition.recognizer import load_recognizer
from tests.conftest import CLASSIFIER_FLAGS
from tests.faces.photos import photo
from tests.in_process import succeed
from tests.web.browser import Visit, launch
from tests.web.serving import serving
from tests.web.test_recogniser import CLASSES, FOUND, NAME, PEOPLE
from web.context import Context

PlaywrightError = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").Error
browser = pytest.fixture(scope="module")(launch)


@pytest.fixture(scope="module")
def output(drawn_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a classifier that has hardly learned anything, calibrated on 60 strangers."""
    folder = tmp_path_factory.mktemp("outputs")
    with mock.patch("faces.recognition.report._draw", return_value=[]):  # charts take long
        flags = (*CLASSIFIER_FLAGS, "--cache", folder / "cache", "--output", folder / "classifiers")
        succeed("train_classifier.py", drawn_people, *flags, "--steps", 1, "--name", "people")
    recognizer = load_recognizer(folder / NAME)
    save_threshold(recognizer, 0.3, measure("probability", [], np.linspace(0.1, 0.6, 60)))
    return folder


@pytest.fixture(scope="module")
def address(output):
    with serving(Context(output=output)) as address:
        yield address


@pytest.fixture
def visit(browser, address, output):
    (output / NAME / "gallery.npz").unlink(missing_ok=True)
    visit = Visit(browser, address, viewport={"width": 1280, "height": 900})
    visit.context.grant_permissions(["camera"])
    visit.page.goto(f"{address}/recogniser")
    visit.page.wait_for_selector("#page:not([hidden])")
    yield visit
    visit.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A photo of one drawn face, one of two, and one of none."""
    folder = tmp_path_factory.mktemp("photos")
    one, two = (photo(number, side=160, width=260, height=240)[0] for number in (FOUND, FOUND + 1))
    none = np.full((3, 100, 100), 200, np.uint8)
    pictures = {"one": one, "two": np.concatenate([one, two], 2), "none": none}
    for name, pixels in pictures.items():
        to_pillow(pixels).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in pictures}


def add(visit: Visit, *files: Path) -> None:
    """Choose photos, and wait for their faces."""
    visit.page.set_input_files("#files", list(files))
    settle(visit)


def choose(visit: Visit, source: str) -> None:
    """Choose a source of names, and wait until it is in use."""
    visit.page.select_option("#source", source)
    visit.wait("document.getElementById('source-note').textContent !== 'Loading the network …'")


def settle(visit: Visit) -> None:
    """Wait until every photo has its newest answer."""
    visit.wait("!document.querySelector('.photo[aria-busy=true]') && document.querySelector('.photo')")


def names(page) -> list[str]:
    return page.locator(".faces .name").all_text_contents()


def enroll(visit: Visit, selector: str, name: str) -> None:
    page = visit.page
    page.click(selector)
    page.fill("#enroll-name", name)
    page.keyboard.press("Enter")
    visit.wait("name => document.getElementById('people').textContent.includes(name)", name)
    settle(visit)


def test_faces_are_boxed_cropped_and_named_with_bars_that_sum_to_one(visit, photos):
    page = visit.page
    choose(visit, CLASSES)
    add(visit, photos["two"], photos["none"])
    assert page.text_content("#summary").startswith("2 faces in 2 photos")
    assert page.locator(".frame button").count() == 2
    assert page.locator(".faces .crop img").count() == 2
    assert "No face found." in page.text_content("#photos")
    for bars in page.locator(".bars").all():
        assert "unknown" in bars.text_content()
        widths = [bar.evaluate("bar => parseFloat(bar.style.width)") for bar in bars.locator("i").all()]
        assert sum(widths) == pytest.approx(100, abs=0.1)
    box = page.locator(".frame button").first.bounding_box()
    image = page.locator(".frame:has(button) img").first.bounding_box()
    assert image["x"] < box["x"]
    assert box["y"] + box["height"] < image["y"] + image["height"]
    page.click("text=Take the centre as the face")
    settle(visit)
    assert page.locator(".frame button").count() == 3
    visit.screenshot("recogniser")


def test_the_threshold_decides_names_and_says_its_false_accept_rate(visit, photos):
    page = visit.page
    choose(visit, CLASSES)
    add(visit, photos["one"])
    rate = "document.getElementById('threshold-rate').textContent"
    for value, is_known in (("0", True), ("1", False)):
        page.fill("#threshold", value)
        assert (names(page) != ["unknown"]) == is_known
        visit.wait(f"{rate}.includes('of 60')")
    assert "None of 60 strangers got a name." in page.text_content("#threshold-rate")
    page.fill("#threshold", "0")
    assert "False-accept rate 1.0e+2%" not in page.text_content("#threshold-rate")
    assert "100%" in page.text_content("#threshold-rate")
    page.focus("#threshold")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#threshold-value") == "0.005"
    page.fill("#threshold", "0.5")
    page.click("#threshold-keep")
    visit.wait("document.getElementById('threshold-keep').disabled")
    page.reload()
    page.wait_for_selector("#page:not([hidden])")
    choose(visit, CLASSES)
    visit.wait("document.getElementById('threshold-value').textContent === '0.500'")


def test_a_click_on_a_face_enrolls_it_and_people_are_renamed_and_removed(visit, photos, output):
    page = visit.page
    add(visit, photos["two"])
    assert names(page) == ["unknown", "unknown"]
    assert "Nobody yet" in page.text_content("#people-panel")
    enroll(visit, ".frame button >> nth=0", "Ada")
    enroll(visit, ".faces .crop >> nth=1", "Bo")
    assert names(page) == ["Ada", "Bo"]
    assert load_gallery(output / NAME / "gallery.npz").people == {"Ada": 1, "Bo": 1}
    visit.screenshot("recogniser_people")

    page.click("[aria-label='Rename Ada']")
    page.fill("[aria-label='New name of Ada']", "Zoë")
    page.keyboard.press("Enter")
    visit.wait("document.getElementById('people').textContent.includes('Zoë')")
    settle(visit)
    assert sorted(names(page)) == ["Bo", "Zoë"]
    # The second click must come within seconds, which are longer here.
    page.evaluate("() => { const old = setTimeout; window.setTimeout = (run, ms) => old(run, 100 * ms); }")
    page.click("[aria-label='Remove Bo']")
    page.click("[aria-label='Confirm: remove Bo']")
    visit.wait("!document.getElementById('people').textContent.includes('Bo')")
    assert load_gallery(output / NAME / "gallery.npz").people == {"Zoë": 1}
    # A mistake is said, and the gallery stays.
    page.click(".frame button >> nth=0")
    page.fill("#enroll-name", "unknown")
    page.keyboard.press("Enter")
    visit.wait("document.querySelector('.message.bad')?.textContent.includes('for strangers')")
    visit.problems.clear()  # the browser reports the refusal too
    assert load_gallery(output / NAME / "gallery.npz").people == {"Zoë": 1}


def test_results_are_saved_as_table_json_and_picture(visit, photos):
    page = visit.page
    add(visit, photos["one"])
    enroll(visit, ".frame button", 'Ada "A", Countess')

    def saved(selector: str) -> Path:
        with page.expect_download() as download:
            page.click(selector)
        return Path(download.value.path())

    (row,) = csv.DictReader(io.StringIO(saved("#save-csv").read_text(encoding="utf-8")))
    assert list(row) == ["file", "face", "left", "top", "right", "bottom", "name", "score"]
    assert (row["file"], row["name"], float(row["score"])) == ("one.png", 'Ada "A", Countess', 1.0)
    values = json.loads(saved("#save-json").read_text(encoding="utf-8"))
    (face,) = values["faces"]
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert values["threshold"] == pytest.approx(float(page.input_value("#threshold")))
    picture = np.asarray(Image.open(saved("text=Save picture")).convert("RGB"))
    original = np.moveaxis(load_png(photos["one"]), 0, -1)
    assert picture.shape == original.shape
    changed = (picture != original).any(-1)
    left, top = (round(float(row[edge])) for edge in ("left", "top"))
    assert changed[top - 2 : top + 3, left + 20 : left + 60].any()  # the box
    assert changed.mean() < 0.2


def test_photos_come_by_drop_by_paste_and_from_the_camera(visit, photos):
    page = visit.page
    for event in ("drop", "paste"):
        page.evaluate(
            """async ([event, bytes, index]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], `by ${event}.png`, { type: "image/png" }));
                const options = { bubbles: true, cancelable: true };
                dispatchEvent(event === "drop" ? new DragEvent(event, { ...options, dataTransfer: data })
                    : new ClipboardEvent(event, { ...options, clipboardData: data }));
            }""",
            [event, list(photos["one"].read_bytes()), 0],
        )
        page.wait_for_selector(f"text=by {event}.png")
    settle(visit)
    page.click("#camera")
    visit.wait("document.getElementById('video').videoWidth > 0")
    page.click("#snap")
    page.wait_for_selector("text=camera-3.png")
    page.click("#camera-stop")
    assert not page.is_visible("#video")
    settle(visit)
    assert "in 3 photos" in page.text_content("#summary")
    page.click("#clear")
    assert page.locator(".photo").count() == 0


def test_an_answer_that_comes_late_never_replaces_a_newer_one(visit, photos):
    page = visit.page
    add(visit, photos["one"])
    # The answer of the classes is kept until that of the people has come.
    held = visit.hold(re.compile(r"faces\?source=classes"))
    page.select_option("#source", CLASSES)
    visit.wait_until(lambda: held, "the faces are asked for")
    page.select_option("#source", PEOPLE)
    settle(visit)
    assert page.locator(".bars dt").all_text_contents() == ["unknown"]
    for route in held:
        # The page has given this request up already; a browser that had not would still not show it.
        with contextlib.suppress(PlaywrightError):
            route.continue_()
    page.wait_for_timeout(500)
    assert page.locator(".bars dt").all_text_contents() == ["unknown"]
    assert page.input_value("#source") == PEOPLE


def test_names_that_cannot_be_loaded_leave_the_former_ones_in_use(visit, photos, output):
    page = visit.page
    choose(visit, CLASSES)
    add(visit, photos["one"])
    (output / NAME / "gallery.npz").write_bytes(b"damaged")
    page.select_option("#source", PEOPLE)
    page.wait_for_selector(".message.bad:has-text('is damaged')")
    settle(visit)
    assert page.input_value("#source") == CLASSES
    assert page.is_hidden("#people-panel")
    visit.problems.clear()  # the browser reports the refusal too


def test_photos_wait_for_the_first_names_and_say_why_they_cannot_be_loaded(visit, photos, output):
    page, gallery = visit.page, output / NAME / "gallery.npz"
    gallery.write_bytes(b"damaged")
    page.reload()
    page.wait_for_selector("#page:not([hidden])")
    add(visit, photos["one"])
    assert "is damaged" in page.inner_text(".photo")
    add(visit, photos["two"])  # which looks for the names again
    assert page.locator(".photo:has-text('is damaged')").count() == 2
    gallery.unlink()
    page.locator("text=Try again").first.click()
    settle(visit)
    assert page.locator("text=Try again").count() == 0
    assert names(page) == ["unknown"] * 3
    assert page.text_content("#summary").startswith("3 faces in 2 photos")
    visit.problems.clear()  # the browser reports the refusals too


def test_photos_are_tried_again_once_the_server_is_back(visit, photos):
    page = visit.page
    page.route("**/api/recogniser/faces*", lambda route: route.abort())
    add(visit, photos["one"], photos["two"])
    assert "is explore.py still running?" in page.inner_text("#photos")
    assert page.locator("text=Try again").count() == 2
    page.unroute("**/api/recogniser/faces*")
    page.locator("text=Try again").first.click()
    settle(visit)
    assert page.locator("text=Try again").count() == 0
    assert len(names(page)) == 3
    visit.problems.clear()  # the browser reports each request that failed


def test_pictures_in_a_dropped_folder_are_read_and_other_files_refused(visit, photos, tmp_path):
    page = visit.page
    folder = tmp_path / "dropped"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(photos["one"], folder / "deeper" / "b.png")
    shutil.copy(photos["one"], folder / "a.png")
    (folder / "notes.txt").write_text("nothing to see")
    drop(page, folder)
    page.wait_for_selector(".photo >> nth=1")
    settle(visit)
    assert page.locator(".photo h2").all_text_contents() == ["a.png", "b.png"]
    drop(page, folder / "notes.txt")
    page.wait_for_selector(".photo:has-text('This is not a picture.')")
    page.click("#clear")
    (tmp_path / "empty").mkdir()
    drop(page, tmp_path / "empty")
    page.wait_for_selector(".message:has-text('There is no photo')")


def drop(page, *paths: Path) -> None:
    """Drop files or folders on the page as from a file manager."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 700, "y": 150, "data": data})


def test_it_fits_a_phone_in_the_dark_and_says_what_is_missing(browser, address, photos, output, tmp_path):
    visit = Visit(browser, address, viewport={"width": 360, "height": 780}, color_scheme="dark")
    visit.page.goto(f"{address}/recogniser")
    visit.page.wait_for_selector("#page:not([hidden])")
    add(visit, photos["two"])
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.screenshot("recogniser_phone")
    visit.close()
    with serving(Context(output=tmp_path)) as empty:
        visit = Visit(browser, empty)
        visit.page.goto(f"{empty}/recogniser")
        visit.page.wait_for_selector("#nothing:not([hidden])")
        assert "python train_classifier.py PEOPLE" in visit.page.text_content("#nothing")
        assert visit.page.text_content("#nothing-where") == str(tmp_path)
        shutil.copytree(output, tmp_path, dirs_exist_ok=True)
        visit.page.wait_for_selector("#page:not([hidden])")  # without a reload
        visit.close()
