"""The state of the explorer: in addresses and PNG files, and undone; each module called in a browser."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image

from tests.web.browser import launch
from tests.web.modules_page import modules_page, run

browser = pytest.fixture(scope="module")(launch)
page = pytest.fixture(scope="module")(modules_page)


def test_text_in_a_png(page):
    code = """await (async () => {
        const canvas = document.createElement("canvas");
        const blob = await new Promise((resolve) => canvas.toBlob(resolve));
        const png = m.addText(new Uint8Array(await blob.arrayBuffer()), "face-lab", a);
        const [text, other] = ["face-lab", "Author"].map((keyword) => m.readText(png, keyword));
        return { bytes: Array.from(png), text, other };
    })()"""
    found = run(page, "png", code, "seed=1&face=1.0~smile:1")
    assert (found["text"], found["other"]) == ("seed=1&face=1.0~smile:1", None)
    png = bytes(found["bytes"])
    start = png.index(b"tEXt")
    end = start + 4 + int.from_bytes(png[start - 4 : start], "big")
    assert int.from_bytes(png[end : end + 4], "big") == zlib.crc32(png[start:end])
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.text == {"face-lab": "seed=1&face=1.0~smile:1"}
    assert (
        run(
            page,
            "png",
            "m.readText(Uint8Array.from(a), 'face-lab')",
            list(b"\x89PNG\r\n\x1a\n\xff\xff\xff\xff"),
        )
        is None
    )


def test_a_state_survives_its_text(page):
    state = {
        **{
            "seed": str(2**63 - 1),
            "tool": "label",
            "pad": ["smile", "yaw"],
            "sum": "3,17 - 5 + 1.5*smile",
            "loop": False,
        },
        "face": {"base": f"{2**63 - 1}.17", "shift": {"smile": -1.25}, "locks": ["pose", "identity"]},
        "slots": [None, {"base": "vAAAAAA", "shift": {}, "locks": []}, *[None] * 6],
        **{"plus": ["5.1", "6.2"], "minus": ["5.3"], "own": [{"name": "größe", "text": "AAAAAA"}]},
    }
    text = run(page, "address", "m.encodeState(a, 'digest')", state)
    assert read(page, text) == {"state": state, "isForeign": False, "lost": []}
    assert read(page, text, digest="another")["isForeign"]
    assert read(page, "") is read(page, "nonsense") is read(page, "a=1&g=digest") is None


def read(page, text, digest="digest"):
    """The state of a text for a generator with latent vectors of one value."""
    description = {"digest": digest, "latent_size": 1, "seed": 7}
    return run(page, "address", "m.decodeState(...a)", [text, description])


@pytest.mark.parametrize(
    ("text", "lost", "kept"),
    [
        ("seed=5", [], {"seed": "5", "face": "5.0"}),
        ("face=1.3", [], {"seed": "7", "face": "1.3"}),
        ("seed=5&face=", ["the face"], {"seed": "5", "face": "5.0"}),
        ("seed=-1&face=1.3", ["the seed"], {"seed": "7", "face": "1.3"}),
        ("seed=1e99&face=1.3", ["the seed"], {"seed": "7", "face": "1.3"}),
        (f"seed={2**63}&face=1.3", ["the seed"], {"seed": "7", "face": "1.3"}),
        ("seed=2&face=<b>", ["the face"], {"seed": "2", "face": "2.0"}),
        ("seed=2&face=1.64", ["the face"], {"face": "2.0"}),
        (f"seed=2&face={2**63}.1", ["the face"], {"face": "2.0"}),
        ("seed=2&face=vAAAA", ["the face"], {"face": "2.0"}),
        ("seed=2&face=1.3~smile:x~yaw:2", ["an edit of the face"], {"face": "1.3~yaw:2"}),
        ("seed=2&face=1.3~smile:1e999", ["an edit of the face"], {"face": "1.3"}),
        ("seed=2&face=1.3~smile:100", [], {"face": "1.3~smile:100"}),
        ("seed=2&face=1.3~smile:900", ["an edit of the face"], {"face": "1.3~smile:100"}),
        ("seed=2&face=1.3&slots=1.1,,%00,1.2", ["kept face 3"], {"slots": "1.1,,,1.2,,,,"}),
        ("seed=2&face=1.3&slots=" + 9 * "1.1,", ["more than 8 kept faces"], {"slots": ",".join(8 * ["1.1"])}),
        ("seed=2&face=1.3&tool=hammer&sum=3", ["the tool"], {"tool": "sliders", "sum": "3"}),
        ("seed=2&face=1.3&plus=1.1,x,1.2", ["a label"], {"plus": ["1.1", "1.2"]}),
        ("seed=2&face=1.3&own=mine:%3Cb%3E&own=:x", ["the direction mine", "a direction"], {"own": []}),
        ("seed=2&face=1.3&own=constructor:AAAAAA", ["the direction constructor"], {"own": []}),
        ("seed=2&face=1.3&own=pose:AAAAAA", ["the direction pose"], {"own": []}),
    ],
)
def test_what_cannot_be_read_of_a_state_is_named_and_the_rest_kept(text, lost, kept, page):
    found = read(page, text)
    assert found["lost"] == lost
    state = found["state"]
    state["face"] = run(page, "address", "m.encodeFace(a)", state["face"])
    state["slots"] = ",".join(run(page, "address", "a.map(m.encodeFace)", state["slots"]))
    assert {name: state[name] for name in kept} == kept


def test_undo_and_redo(page):
    code = """(() => {
        const store = new m.Store({ n: 0 });
        const seen = [];
        store.observe(({ n }) => seen.push(n));
        store.change({ n: 1 });
        store.change({ n: 2 }, false);
        store.change({ n: 3 });
        store.undo(); store.undo(); store.undo(); store.redo();
        store.change({ n: 9 });
        store.redo();
        store.undo();
        return [seen, store.canUndo, store.canRedo];
    })()"""
    assert run(page, "state", code) == [[0, 1, 2, 3, 1, 0, 1, 9, 1], True, True]
