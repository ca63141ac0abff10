"""Which photos a user names, and that no copy can take the place of one."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from faces.photos import Photos, check_output, list_photos, mark_output


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two files that promise an image, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "in").mkdir(parents=True)
    for name in ("b.jpg", "in/a.png"):
        (folder / name).write_bytes(b"x")
    (folder / "notes.txt").write_text("none")
    return folder


def test_files_and_folders_in_the_order_given_each_photo_once(folder):
    photos = list_photos([folder / "in" / "a.png", folder])
    assert photos.files == [folder / "in" / "a.png", folder / "b.jpg"]
    assert photos.left_out == []


def test_what_cannot_be_opened_is_named_with_the_reason(folder):
    (folder / "empty.jpg").touch()
    (folder / "broken.jpg").symlink_to("nowhere")
    named = dict(list_photos([folder]).left_out)
    assert named[str(folder / "empty.jpg")] == "empty file"
    assert "No such file" in named[str(folder / "broken.jpg")]


def test_nothing_to_look_at_is_one_line(folder, tmp_path):
    for named, said in (
        ([], "no photo is given"),
        ([folder / "gone.jpg"], "no photo or folder"),
        ([folder / ("x" * 300)], "cannot be read: File name too long"),
        ([tmp_path / "none"], "no photo in .*none$"),
        ([tmp_path / "bare"], "no photo in .*bare; .*x.jpg: empty file"),
    ):
        (tmp_path / "none").mkdir(exist_ok=True)
        (tmp_path / "bare").mkdir(exist_ok=True)
        (tmp_path / "bare" / "x.jpg").touch()
        with pytest.raises(UserError, match=said):
            list_photos(named)


def test_a_folder_that_cannot_be_read_is_one_line(folder, monkeypatch):
    def refuse(*_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UserError, match=r"photos cannot be read: Permission denied"):
        list_photos([folder])


def test_copies_go_where_no_photo_is(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "linked.jpg"
    link.symlink_to(folder / "b.jpg")
    for named, output in (
        (folder, folder),
        (Path("photos"), folder / "in" / ".."),
        (folder, folder / "in"),
        (folder, folder / "new"),
        (folder / "b.jpg", folder),
        (link, tmp_path),
        (link, folder),
    ):
        with pytest.raises(UserError, match="name another folder by --output"):
            list_photos([named]).check_apart(output)
    list_photos([folder]).check_apart(tmp_path / "photos 2")
    list_photos([folder]).check_apart(tmp_path)
    list_photos([folder / "b.jpg"]).check_apart(folder / "new")


STEMS = ("a", "A", "a-2", "ß", "SS", "b", "顔" * 80, "x" * 251, "X" * 251)


@given(st.lists(st.sampled_from(STEMS), min_size=1, max_size=8))
def test_no_two_copies_share_a_name(stems):
    photos = [Path(str(number)) / f"{stem}.jpg" for number, stem in enumerate(stems)]
    names = Photos((), photos, []).copies()
    assert list(names) == photos
    assert len({name.casefold() for name in names.values()}) == len(photos)
    assert all(len(os.fsencode(name)) <= 255 for name in names.values())


def test_output_folder_with_other_files_is_refused(tmp_path):
    check_output(tmp_path / "new", "x.py")
    (tmp_path / ".hidden").touch()
    check_output(tmp_path, "x.py")
    mark_output(tmp_path, "x.py")
    (tmp_path / "a.png").touch()
    check_output(tmp_path, "x.py")
    with pytest.raises(UserError, match=r"contains files that y\.py did not write"):
        check_output(tmp_path, "y.py")
