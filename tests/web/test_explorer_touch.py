"""The explorer as one file: its layout from a phone to a desk, and dragging with a finger."""

import pytest

from tests.web.browser import launch
from tests.web.explorer_page import PHONE, opened, saved, slot, state, tile, until
from tests.web.made_generator import made_directions, made_generator

browser = pytest.fixture(scope="module")(launch)
generator = pytest.fixture(scope="module")(made_generator)
directions = pytest.fixture(scope="module")(made_directions)
file = pytest.fixture(scope="module")(saved)

IS_IN_SIGHT = """(element) => {
    const { left, top, right, bottom } = element.getBoundingClientRect();
    const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    const isInside = left > -2 && top > -2 && right < innerWidth + 2 && bottom < innerHeight + 2;
    return isInside && element.contains(hit);
}"""
SIZES = {
    "desk": (1440, 900),
    "laptop": (1280, 720),
    "tablet": (1024, 768),
    "phone": (390, 844),
    "lying": (844, 390),
}


@pytest.fixture
def phone(browser, file):
    with opened(browser, file, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        yield page


def is_in_sight(page, selector):
    return page.eval_on_selector(selector, IS_IN_SIGHT)


@pytest.mark.parametrize("size", SIZES)
def test_the_face_is_in_sight_beside_whatever_changes_it(size, browser, file):
    width, height = SIZES[size]
    with opened(browser, file, viewport={"width": width, "height": height}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sliders = page.locator("#tool-sliders input[type=range]")
        assert sliders.count() == 11
        for number in range(sliders.count()):
            sliders.nth(number).focus()  # which scrolls to it
            assert sliders.nth(number).evaluate(IS_IN_SIGHT)
            assert is_in_sight(page, "#face")
        page.focus("#tab-pad")
        page.keyboard.press("Enter")
        page.focus(".pad")
        assert is_in_sight(page, "#face")
        if size != "lying":
            assert is_in_sight(page, ".pad")
        page.evaluate("scrollTo(0, 0)")
        if size in ("desk", "laptop"):
            for place in (".pad", tile(0), tile(63), slot(7), "#keep", "#tab-label"):
                assert is_in_sight(page, place), place
        tops = page.evaluate(
            "[...document.querySelectorAll('[role=tab]:not([hidden])')].map((tab) => tab.offsetTop)"
        )
        assert len(set(tops)) == 1


class Finger:
    """A finger on the screen of a page, by the browser's own touch events."""

    def __init__(self, page):
        self.page, self.session = page, page.context.new_cdp_session(page)

    def centre(self, selector):
        box = self.page.locator(selector).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def do(self, kind, *point):
        points = [{"x": point[0], "y": point[1]}] if point else []
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def press(self, selector, seconds):
        self.at = self.centre(selector)
        self.do("touchStart", *self.at)
        self.page.wait_for_timeout(1000 * seconds)

    def hold(self, selector):
        """Press until the face is held."""
        self.press(selector, 0)
        until(self.page, "document.querySelector('.ghost') !== null")

    def move(self, x, y, steps=8):
        left, top = self.at
        self.at = x, y
        for step in range(1, steps + 1):
            share = step / steps
            self.do("touchMove", left + share * (x - left), top + share * (y - top))
            self.page.wait_for_timeout(16)

    def lift(self):
        self.do("touchEnd")


def scrolled(page):
    return page.evaluate("[scrollY, document.getElementById('wall').scrollLeft]")


def test_a_finger_that_holds_a_face_drags_it_and_scrolls_nothing(phone):
    finger = Finger(phone)
    finger.hold(tile(4))
    assert phone.locator(".ghost").count() == 1
    finger.move(*finger.centre(slot(2)))
    until(phone, "document.querySelectorAll('.slot.over').length === 1")
    finger.lift()
    until(phone, "lab.store.state.slots[2]?.base === '1.4'")
    assert state(phone)["face"]["base"] == "1.0"  # the drag is no tap
    assert scrolled(phone) == [0, 0]
    assert phone.locator(".ghost, .over").count() == 0
    # From a slot to the large picture.
    finger.hold(slot(2))
    finger.move(*finger.centre("#stage"))
    finger.lift()
    until(phone, "lab.store.state.face.base === '1.4'")
    phone.tap(tile(6))
    until(phone, "lab.store.state.face.base === '1.6'")


def test_a_tap_right_after_a_drag_counts_however_late_timers_are(phone):
    finger = Finger(phone)
    finger.hold(tile(4))
    finger.move(*finger.centre("#stage"))
    phone.evaluate(
        "() => { const usual = setTimeout; window.setTimeout = (run, after) => usual(run, after + 10000); }"
    )
    finger.lift()
    phone.tap(tile(6))
    until(phone, "lab.store.state.face.base === '1.6'")


@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.8])
def test_a_slow_tap_is_one_tap(seconds, phone):
    finger = Finger(phone)
    finger.press(tile(4), seconds)
    finger.lift()
    until(phone, "lab.store.state.face.base === '1.4'")
    phone.tap("#tab-label")
    until(phone, "lab.store.state.tool === 'label'")
    finger.press(tile(4), seconds)
    finger.lift()
    until(phone, "lab.store.state.plus.length + lab.store.state.minus.length > 0")
    phone.wait_for_timeout(200)  # in which a second click would come
    assert (state(phone)["plus"], state(phone)["minus"]) == (["1.4"], [])


def test_a_finger_drags_an_exemplar_into_a_sum(phone):
    phone.tap("#tab-sum")
    until(phone, "lab.store.state.tool === 'sum'")
    phone.locator("#tool-sum input").scroll_into_view_if_needed()
    finger = Finger(phone)
    finger.hold(tile(3))
    finger.move(*finger.centre("#tool-sum input"))
    finger.lift()
    until(phone, "lab.store.state.sum === '3'")


def test_a_finger_that_moves_at_once_scrolls(phone):
    finger = Finger(phone)
    finger.press(tile(4), 0.05)
    x, y = finger.at
    finger.move(x - 150, y)
    finger.lift()
    until(phone, "document.getElementById('wall').scrollLeft > 50")
    assert state(phone)["slots"] == [None] * 8
    assert phone.locator(".ghost").count() == 0


def test_a_drag_is_given_up(phone):
    finger, held = Finger(phone), "document.querySelector('.ghost, .over, [data-held]')"
    finger.hold(tile(4))
    finger.move(*finger.centre(slot(2)))
    phone.keyboard.press("Escape")
    until(phone, f"!{held}")
    finger.lift()
    assert state(phone)["slots"] == [None] * 8
    finger.hold(tile(4))
    finger.move(*finger.centre("#wall-title"))
    finger.lift()
    until(phone, f"!{held}")
    assert state(phone)["slots"] == [None] * 8
    assert phone.locator(".ghost, .over, [data-held]").count() == 0
