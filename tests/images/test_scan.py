import os
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from images.scan import list_images

posix = pytest.mark.skipif(os.name == "nt", reason="requires POSIX links and pipes")
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]


def add(path, form="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, form)


def test_nested_folders_are_listed_sorted(tmp_path):
    for name in ["b.png", "a/z.png", "a/b/c/d.png", "a.png", "日本/ü é.png"]:
        add(tmp_path / name)
    assert list_images(tmp_path).files == ["a.png", "a/b/c/d.png", "a/z.png", "b.png", "日本/ü é.png"]


@pytest.mark.parametrize("form", FORMATS)
def test_suffix_may_be_upper_case_missing_or_wrong(tmp_path, form):
    for name in ["IMAGE.JPG", "image", "image.data", "image.Jpeg"]:
        add(tmp_path / name, form)
    assert len(list_images(tmp_path).files) == 4


def test_extra_suffixes(tmp_path):
    add(tmp_path / "face.png")
    for name in ("film.mp4", "b/FILM.MP4", "film.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"frames")
    assert list_images(tmp_path).files == ["face.png"]
    assert list_images(tmp_path, {".mp4"}).files == ["b/FILM.MP4", "face.png", "film.mp4"]


def test_other_files_are_ignored(tmp_path):
    add(tmp_path / "face.png")
    (tmp_path / "labels.csv").write_text("BMI,height\n22,180\n")
    (tmp_path / "README").write_text("faces")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "index.json").write_text("{}")
    add(tmp_path / ".hidden.png")
    add(tmp_path / ".git/face.png")
    listing = list_images(tmp_path)
    assert listing.files == ["face.png"]
    assert listing.skipped == []


def test_files_of_systems_are_reported_and_not_entered(tmp_path):
    add(tmp_path / "trip/face.png")
    (tmp_path / "trip/Thumbs.db").write_bytes(b"thumbnails")
    add(tmp_path / "trip/@eaDir/face.png/SYNOPHOTO_THUMB_M.jpg", "JPEG")
    for name in ("__MACOSX/trip/._face.png", "._face.png", ".thumbnails/face.png", "#recycle/face.png"):
        add(tmp_path / name)
    listing = list_images(tmp_path)
    assert listing.files == ["trip/face.png"]
    assert listing.skipped == [
        ("#recycle", "not entered: deleted files"),
        ("._face.png", "metadata of macOS, not an image"),
        (".thumbnails", "not entered: thumbnails or copies"),
        ("__MACOSX", "not entered: metadata of macOS"),
        ("trip/@eaDir", "not entered: thumbnails or copies"),
        ("trip/Thumbs.db", "thumbnails of Windows"),
    ]


def test_empty_image_is_skipped(tmp_path):
    (tmp_path / "face.JPG").touch()
    assert list_images(tmp_path).skipped == [("face.JPG", "empty file")]


def test_unsupported_image_format_is_listed(tmp_path):
    (tmp_path / "face.HEIC").write_bytes(b"\0\0\0 ftypheic")
    assert list_images(tmp_path).files == ["face.HEIC"]


@posix
def test_links_are_followed_and_cycles_end(tmp_path):
    folder, elsewhere = tmp_path / "faces", tmp_path / "elsewhere"
    add(folder / "deep/face.png")
    add(elsewhere / "other.png")
    (folder / "deep/circle").symlink_to(folder)
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    (folder / "notes").symlink_to(folder / "gone")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "one.png").symlink_to(elsewhere / "other.png")
    listing = list_images(folder)
    assert listing.files == ["deep/face.png", "linked/other.png", "one.png"]
    assert [name for name, _ in listing.skipped] == ["itself.png", "nowhere.png"]


@posix
def test_linked_folder_is_listed_by_its_own_path(tmp_path):
    add(tmp_path / "real/face.png")
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    assert list_images(tmp_path).files == ["real/face.png"]


@posix
def test_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    listing = list_images(tmp_path)
    assert listing.files == []
    assert listing.skipped == [("pipe.jpg", "not a regular file")]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_name_that_is_not_utf8(tmp_path):
    (tmp_path / "plain.png").touch()
    path = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    with open(path, "wb") as file:  # noqa: PTH123
        Image.new("RGB", (8, 8)).save(file, "PNG")
    assert list_images(tmp_path).files == ["\udcff\udcfe.png"]


def no_permission(*args, **kwargs):
    raise PermissionError(13, "Permission denied")


def test_unreadable_subfolder_is_skipped(tmp_path, monkeypatch):
    add(tmp_path / "face.png")
    add(tmp_path / "secret/face.png")
    listdir = os.listdir

    def refuse(path):
        return no_permission() if Path(path).name == "secret" else listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    listing = list_images(tmp_path)
    assert listing.files == ["face.png"]
    assert listing.skipped == [("secret/", "cannot be read: Permission denied")]


def test_unreadable_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "listdir", no_permission)
    with pytest.raises(PermissionError):
        list_images(tmp_path)


def test_digest_changes_with_the_images_only(tmp_path):
    add(tmp_path / "a.png")
    add(tmp_path / "b.png", "BMP")
    (tmp_path / "labels.csv").write_text("1")
    digests = [list_images(tmp_path).digest]

    def changed():
        digests.append(list_images(tmp_path).digest)
        return digests[-1] not in digests[:-1]

    assert not changed()
    (tmp_path / "labels.csv").write_text("2")
    add(tmp_path / ".hidden.png")
    assert not changed()
    add(tmp_path / "c.png")
    assert changed()
    (tmp_path / "c.png").rename(tmp_path / "d.png")
    assert changed()
    os.utime(tmp_path / "d.png", ns=(0, 0))
    assert changed()
    (tmp_path / "d.png").unlink()
    changed()
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes() + b"\0")
    assert changed()


@posix
def test_digest_changes_for_equal_size_and_time_and_for_permissions(tmp_path):
    path = tmp_path / "a.bmp"
    add(path, "BMP")
    first, status = list_images(tmp_path).digest, path.stat()
    time.sleep(0.02)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "new.bmp")
    os.utime(tmp_path / "new.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "new.bmp").replace(path)
    second = list_images(tmp_path).digest
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert path.stat().st_size == status.st_size
    assert second != first
    time.sleep(0.02)
    path.chmod(0o600)
    assert list_images(tmp_path).digest != second
