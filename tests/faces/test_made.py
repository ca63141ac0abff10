"""A script writes anew what it made, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import UserError
from faces.made import Made

NAMES = ("a.csv", "é\udcff.png")


def make(folder: Path, text: str, names: tuple[str, ...] = NAMES) -> None:
    made = Made(folder, "x.py", names)
    for name in names:
        with made.atomic_write(name) as path:
            path.write_text(text)


def test_what_it_made_it_makes_anew(tmp_path):
    for text in ("first", "second", "second"):
        make(tmp_path / "out", text)
        assert [(tmp_path / "out" / name).read_text() for name in NAMES] == [text] * 2
    make(tmp_path / "out", "third", NAMES[:1])
    make(tmp_path / "out", "fourth")
    assert len((tmp_path / "out" / ".x.made").read_text().splitlines()) == 4, "two that stood, and two anew"


@pytest.mark.parametrize("way", ["unknown", "changed", "of another script", "a folder"])
def test_what_it_did_not_make_stays(tmp_path, way):
    mine = tmp_path / NAMES[0]
    if way == "changed":
        make(tmp_path, "made")
    if way == "of another script":
        with Made(tmp_path, "y.py", NAMES).atomic_write(NAMES[0]) as path:
            path.write_text("made")
    elif way == "a folder":
        mine.mkdir()
    else:
        mine.write_text("by hand")
    with pytest.raises(UserError, match=r"a.csv was not made by x.py, or was changed since"):
        Made(tmp_path, "x.py", NAMES)
    assert mine.exists()


@pytest.mark.parametrize("when", ["writing", "moving"])
def test_a_kill_at_any_moment_leaves_a_folder_to_go_on_with(tmp_path, monkeypatch, when):
    make(tmp_path, "before")
    made = Made(tmp_path, "x.py", NAMES)
    whole = Path.replace

    def killed(path: Path, place: Path) -> Path:
        if place.name == ".x.made":
            return whole(path, place)
        raise SystemExit

    def write() -> None:
        with made.atomic_write(NAMES[0]) as path:
            path.write_text("after")
            if when == "writing":
                raise SystemExit

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(SystemExit):
        write()
    monkeypatch.undo()
    with (tmp_path / ".x.made").open("a") as file:
        file.write('["a.csv", "12')
    assert (tmp_path / NAMES[0]).read_text() == "before"
    make(tmp_path, "after")
    assert (tmp_path / NAMES[0]).read_text() == "after"
