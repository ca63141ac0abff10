import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from images.dataset import load_folder
from images.holdout import holdout_mask
from tests.in_process import Terminal

ROOT = Path(__file__).parents[2]


def add(path, colour=(10, 20, 30), size=(32, 32), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def add_image(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def folder(tmp_path):
    """Three images: red, green and, in a folder inside, blue."""
    for name, colour in {"a.png": (255, 0, 0), "b.png": (0, 255, 0), "c/d.png": (0, 0, 255)}.items():
        add(tmp_path / "faces" / name, colour)
    return tmp_path / "faces"


@pytest.fixture
def load(tmp_path):
    def load(folder, size=32, **options):
        settings = {"cache": tmp_path / "cache", "workers": 0, "progress": False} | options
        return load_folder(folder, size, **settings)

    return load


def colours(faces):
    return [tuple(int(value) for value in image[:, 16, 16]) for image in faces.images]


def test_images_are_sorted_by_name(load, folder):
    faces = load(folder)
    assert faces.images.shape == (3, 3, 32, 32)
    assert faces.images.dtype == np.uint8
    assert faces.files == ["a.png", "b.png", "c/d.png"]
    assert colours(faces) == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert faces.folder == folder
    assert (faces.skipped, faces.duplicates, faces.mapped, faces.from_cache) == ([], 0, True, False)


def test_second_load_is_from_the_cache(load, folder, monkeypatch):
    (folder / "broken.png").write_text("no image")
    first = load(folder)
    monkeypatch.setattr("images.dataset.decode_files", lambda *_: pytest.fail("decoded again"))
    second = load(folder)
    assert second.from_cache
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.fingerprints, second.fingerprints)
    assert (first.files, first.digest, first.skipped) == (second.files, second.digest, second.skipped)
    for faces in (first, second):
        assert faces.mapped
        with pytest.raises(ValueError, match="read-only"):
            faces.images[0] = 0


def test_equivalent_paths_share_a_cache_entry(load, folder, monkeypatch):
    load(folder)
    monkeypatch.chdir(folder.parent)
    assert load("faces").from_cache
    assert load("./faces/c/..").from_cache


def test_changes_to_the_folder_are_detected(load, folder, tmp_path):
    red, green, blue, grey = (255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)
    digests = [load(folder).digest]

    def check(*expected):
        faces = load(folder)
        assert not faces.from_cache
        assert colours(faces) == list(expected)
        assert faces.digest not in digests
        digests.append(faces.digest)
        assert load(folder).from_cache
        assert len(list((tmp_path / "cache").iterdir())) == 2, "outdated entries remain"

    add(folder / "z.png", grey)
    check(red, green, blue, grey)
    (folder / "z.png").rename(folder / "0.png")
    check(grey, red, green, blue)
    (folder / "a.png").unlink()
    check(grey, green, blue)
    status = (folder / "b.png").stat()
    new = tmp_path / "new.png"
    add(new, red)
    new.write_bytes(new.read_bytes().ljust(status.st_size, b"\0"))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert new.stat().st_size == status.st_size
    new.replace(folder / "b.png")
    check(grey, red, blue)


def test_other_files_do_not_invalidate_the_cache(load, folder):
    load(folder)
    (folder / "labels.csv").write_text("a,1")
    assert load(folder).from_cache


def test_sizes_have_separate_entries(load, folder, tmp_path):
    assert load(folder, 32).digest != load(folder, 48).digest
    assert load(folder, 32).from_cache
    assert load(folder, 48).images.shape == (3, 3, 48, 48)
    add(folder / "e.png")
    load(folder, 32)
    assert len(list((tmp_path / "cache").iterdir())) == 2, "an outdated array remains"


def test_new_decoder_invalidates_the_cache(load, folder, monkeypatch):
    load(folder)
    monkeypatch.setattr("images.dataset.DECODER", "another")
    assert not load(folder).from_cache


def test_damaged_cache_is_rewritten(load, folder, tmp_path):
    expected = load(folder).images.copy()
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    faces = load(folder)
    assert not faces.from_cache
    assert np.array_equal(faces.images, expected)


def add_unusable(folder):
    """Write a good image and one of each unusable kind; return the names of the latter."""
    add(folder / "good.png")
    add(folder / "small.png", size=(15, 200))
    add(folder / "whole.jpg", size=(200, 200))
    content = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.JPEG").write_text("no image")
    (folder / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "phone.heic").write_bytes(b"\0\0\0 ftypheic")
    (folder / "page.html").write_text("<html>")
    bad = {"small.png", "cut.jpg", "empty.jpg", "text.JPEG", "header.png", "phone.heic"}
    if sys.platform == "linux":
        (folder / "broken\n\tname\udcff.jpg").write_bytes(b"x")
        bad.add("broken\n\tname\udcff.jpg")
    if os.name == "posix":
        (folder / "nowhere.jpg").symlink_to("gone")
        (folder / "circle").symlink_to(folder)
        os.mkfifo(folder / "pipe.png")
        bad |= {"nowhere.jpg", "pipe.png"}
    return bad


@pytest.mark.parametrize("cached", [False, True])
def test_unusable_files_are_skipped_and_listed(load, tmp_path, cached):
    bad = add_unusable(tmp_path / "faces")
    if cached:
        load(tmp_path / "faces")
    faces = load(tmp_path / "faces")
    assert faces.from_cache == cached
    assert faces.files == ["good.png"]
    assert {name for name, _ in faces.skipped} == bad
    assert faces.skipped == sorted(faces.skipped)
    reasons = dict(faces.skipped)
    assert reasons["small.png"].startswith("too small: 15 x 200")
    assert "truncated" in reasons["cut.jpg"]
    assert reasons["empty.jpg"] == "empty file"
    assert reasons["text.JPEG"].startswith("not a JPEG")

    faces.write_skipped(tmp_path / "run" / "skipped.txt")
    lines = (tmp_path / "run" / "skipped.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t") for line in lines if not line.startswith("broken")] == [
        list(pair) for pair in faces.skipped if not pair[0].startswith("broken")
    ]
    if sys.platform == "linux":
        assert "broken\\n\\tname\\xff.jpg\tnot a JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC or AVIF image" in lines


def test_duplicates_are_counted_by_pixels_and_kept(load, folder):
    shutil.copy(folder / "a.png", folder / "copy.png")
    add(folder / "other format.bmp", (255, 0, 0))
    add(folder / "nearly.png", (254, 0, 0))
    faces = load(folder)
    assert len(faces.images) == 6
    assert faces.duplicates == 2
    assert load(folder).duplicates == 2


def test_no_near_duplicate_of_a_training_image_is_held_out(load, tmp_path):
    random = np.random.default_rng(0)
    for number in range(40):
        photo = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64), 3)
        add_image(photo, tmp_path / "faces" / f"{number}.png")
        if number < 20:
            add_image(photo, tmp_path / "faces" / f"{number}.jpg")
    for _ in range(2):  # decoded, then from the cache
        faces = load(tmp_path / "faces", held_out=0.2)
        sides = {}
        for name, side in zip(faces.files, faces.held_out.tolist(), strict=True):
            sides.setdefault(name.partition(".")[0], set()).add(side)
        assert {len(both) for both in sides.values()} == {1}
        assert faces.near_duplicates == 40
        assert 8 <= faces.held_out.sum() <= 20
    early = load(tmp_path / "faces", held_out=0.2, group_near_duplicates=False)
    assert np.array_equal(early.held_out, holdout_mask(faces.fingerprints, 0.2))


def test_digest_depends_on_pixels_and_order_only(load, folder, tmp_path):
    first = load(folder).digest
    for name in ("a.png", "b.png", "c/d.png"):
        shutil.copy(folder / name, tmp_path / name.replace("/", "-"))
    other = tmp_path / "other"
    other.mkdir()
    for old, new in {"a.png": "1.png", "b.png": "2.png", "c-d.png": "3.png"}.items():
        (tmp_path / old).rename(other / new)
    assert load(other).digest == first
    (other / "1.png").rename(other / "4.png")
    assert load(other).digest != first


def error_of(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_folder(load, tmp_path):
    assert f"no folder {tmp_path / 'gone'} (No such file" in error_of(lambda: load(tmp_path / "gone"))


def test_folder_is_a_file(load, folder):
    assert "a.png is a file; give a folder" in error_of(lambda: load(folder / "a.png"))
    assert "no folder" in error_of(lambda: load(folder / "a.png" / "inside"))


def test_empty_folder(load, tmp_path):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "README").write_text("soon")
    assert "no image in" in error_of(lambda: load(tmp_path / "faces"))
    assert not (tmp_path / "cache").exists()


def test_folder_without_usable_images(load, tmp_path):
    add_unusable(tmp_path / "faces")
    (tmp_path / "faces" / "good.png").unlink()
    for _ in range(2):
        assert "no usable image" in error_of(lambda: load(tmp_path / "faces"))
    for path in (tmp_path / "faces").glob("*.*"):
        if path.name != "empty.jpg":
            path.unlink()
    assert "1 skipped, such as empty.jpg: empty file" in error_of(lambda: load(tmp_path / "faces"))


def test_unreadable_folder(load, folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    assert f"cannot read the folder {folder} (Permission denied)" in error_of(lambda: load(folder))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (MemoryError(), "out of memory"),
    ],
)
def test_a_file_is_skipped_while_it_is_unreadable(load, folder, monkeypatch, error, said):
    path_open = Path.open

    def refuse(path, *args, **kwargs):
        if path.name == "b.png":
            raise error
        return path_open(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        for from_cache in (False, True):
            faces = load(folder)
            assert faces.skipped == [("b.png", f"cannot be read: {said}")]
            assert faces.from_cache == from_cache
    assert load(folder).files == ["a.png", "b.png", "c/d.png"]


def test_unwritable_cache_falls_back_to_memory_with_a_warning(load, folder, tmp_path, capsys):
    expected = load(folder)
    (tmp_path / "file").touch()
    faces = load(folder, cache=tmp_path / "file" / "cache")
    assert np.array_equal(faces.images, expected.images)
    assert (faces.digest, faces.mapped, faces.from_cache) == (expected.digest, False, False)
    warning = capsys.readouterr().err
    assert warning.startswith("warning: cannot write decoded images to ")
    assert warning.count("\n") == 1
    with pytest.raises(ValueError, match="read-only"):
        faces.images[0] = 0


def test_unwritable_cache_and_too_little_memory(load, folder, tmp_path):
    (tmp_path / "file").touch()
    message = error_of(lambda: load(folder, cache=tmp_path / "file" / "cache", memory_share=0))
    assert "cannot write decoded images" in message
    assert "another cache folder" in message


@contextlib.contextmanager
def file_size_limit(size):
    resource = pytest.importorskip("resource", reason="requires POSIX file size limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_fills_up_while_decoding(load, tmp_path, capsys):
    for number in range(40):
        add(tmp_path / "faces" / f"{number:02}.png", (number, 0, 0))
    with file_size_limit(50_000):
        faces = load(tmp_path / "faces")
    assert colours(faces) == [(number, 0, 0) for number in range(40)]
    assert "cannot write decoded images" in capsys.readouterr().err
    assert list((tmp_path / "cache").iterdir()) == []


def test_workers_give_the_same_array(load, tmp_path):
    for number in range(70):
        add(tmp_path / "fa ces 顔" / f"{number:02}.jpg", (number, 0, 0))
    (tmp_path / "fa ces 顔" / "broken.jpg").write_bytes(b"x")
    alone = load(tmp_path / "fa ces 顔", cache=tmp_path / "alone", workers=0)
    together = load(tmp_path / "fa ces 顔", workers=2)
    assert not together.from_cache
    assert (alone.digest, alone.files, alone.skipped) == (together.digest, together.files, together.skipped)


def test_progress_bar_is_shown_only_while_decoding(load, folder, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    load(folder, progress=True)
    assert "decoding: 100%" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", Terminal())
    load(folder, progress=True)
    assert sys.stderr.getvalue() == ""


def test_concurrent_processes(folder, tmp_path, load):
    script = (
        "import sys; from images.dataset import load_folder\n"
        "print(load_folder(sys.argv[1], 32, cache=sys.argv[2], workers=0, progress=False).digest)"
    )
    command = [sys.executable, "-c", script, str(folder), str(tmp_path / "both")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    digests = [process.communicate()[0].strip() for process in both]
    assert digests == [load(folder).digest] * 2
    assert load(folder, cache=tmp_path / "both").from_cache
    assert len(list((tmp_path / "both").iterdir())) == 2
