"""Photos named on a command line, and names for copies that never overwrite a photo."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from faces.photos import Photos, check_output, list_photos, mark_output
from images.exclude import Excluded


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two image files, one of them in a subfolder, and a text file."""
    folder = tmp_path / "photos"
    (folder / "in").mkdir(parents=True)
    for name in ("b.jpg", "in/a.png"):
        (folder / name).write_bytes(b"x")
    (folder / "notes.txt").write_text("none")
    return folder


def test_order_of_inputs_without_duplicates(folder):
    photos = list_photos([folder / "in" / "a.png", folder])
    assert photos.files == [folder / "in" / "a.png", folder / "b.jpg"]
    assert photos.skipped == []


def test_unopenable_files_are_left_out_with_the_reason(folder):
    (folder / "empty.jpg").touch()
    (folder / "broken.jpg").symlink_to("nowhere")
    skipped = dict(list_photos([folder]).skipped)
    assert skipped[str(folder / "empty.jpg")] == "empty file"
    assert "No such file" in skipped[str(folder / "broken.jpg")]


def test_excluded_photos(folder):
    """Patterns apply to folders and to the names of photos that are given themselves."""
    (folder / "b_mask.jpg").write_bytes(b"x")
    photos = list_photos([folder / "b_mask.jpg", folder], ["*_mask.*", "in/", "nothing"])
    assert photos.files == [folder / "b.jpg"]
    assert photos.excluded == Excluded(2, 1, ("nothing",))
    with pytest.raises(UserError, match=r"^no photo in .*b\.jpg; 1 image excluded by --exclude$"):
        list_photos([folder / "b.jpg"], ["b*"])


def test_no_photos_is_one_line(folder, tmp_path):
    for inputs, message in (
        ([], "no photo is given"),
        ([folder / "gone.jpg"], "no photo or folder"),
        ([folder / ("x" * 300)], "cannot be read: File name too long"),
        ([tmp_path / "none"], "no photo in .*none$"),
        ([tmp_path / "bare"], "no photo in .*bare; .*x.jpg: empty file"),
    ):
        (tmp_path / "none").mkdir(exist_ok=True)
        (tmp_path / "bare").mkdir(exist_ok=True)
        (tmp_path / "bare" / "x.jpg").touch()
        with pytest.raises(UserError, match=message):
            list_photos(inputs)


def test_unreadable_folder_is_one_line(folder, monkeypatch):
    def refuse(*_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UserError, match=r"photos cannot be read: Permission denied"):
        list_photos([folder])


def test_output_must_be_apart_from_the_photos(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "linked.jpg"
    link.symlink_to(folder / "b.jpg")
    for photo, output in (
        (folder, folder),
        (Path("photos"), folder / "in" / ".."),
        (folder, folder / "in"),
        (folder, folder / "new"),
        (folder / "b.jpg", folder),
        (link, tmp_path),
        (link, folder),
    ):
        with pytest.raises(UserError, match="choose another folder with --output"):
            list_photos([photo]).check_output(output)
    list_photos([folder]).check_output(tmp_path / "photos 2")
    list_photos([folder]).check_output(tmp_path)
    list_photos([folder / "b.jpg"]).check_output(folder / "new")


STEMS = ("a", "A", "a-2", "ß", "SS", "b", "顔" * 80, "x" * 251, "X" * 251)


@given(st.lists(st.sampled_from(STEMS), min_size=1, max_size=8))
def test_copy_names_are_unique(stems):
    photos = [Path(str(number)) / f"{stem}.jpg" for number, stem in enumerate(stems)]
    names = Photos((), photos, [], Excluded()).copy_names()
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
