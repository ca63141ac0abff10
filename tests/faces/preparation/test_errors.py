"""Unsuitable folders, arguments and names: one line each, without side effects."""

import os
import shutil
from pathlib import Path

import pytest

from engine.errors import UserError
from faces.preparation import folder as preparation
from tests.faces.photos import save_photo
from tests.faces.preparation.helpers import contents, prepare_here, read_manifest
from tests.in_process import call, refusal

pytest.importorskip("cv2", reason="needs the extra 'photos'")


@pytest.mark.parametrize(
    ("photos", "out", "expected"),
    [
        ("in", "in", "is the folder of photos; choose another output folder"),
        ("in", "in/out", "is inside the folder of photos"),
        ("in/sub", "in", "is inside .*; choose another output folder"),
        ("in", "file", "is a file; name a folder for the faces"),
        ("file", "out", "is a file; name a folder of photos"),
        ("missing", "out", "no folder .*missing"),
        ("bare", "out", "no photo or video in .*bare"),
        ("in", "other", "contains other files than prepared faces; name a new or empty folder"),
        ("link", "in/out", "is inside the folder of photos"),
        ("in", "circle", "circle cannot be written to: File exists"),
    ],
)
def test_unsuitable_folders(tmp_path, monkeypatch, photos, out, expected):
    monkeypatch.chdir(tmp_path)
    save_photo(tmp_path / "in" / "sub" / "a.png", 1)
    for name in ("bare", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "other" / "mine.txt").touch()
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "circle").symlink_to("circle")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=expected):
        prepare_here(Path(photos), Path(out))
    assert contents(tmp_path) == before
    assert not (tmp_path / "in" / "out").exists()


def test_link_into_the_output_folder(tmp_path):
    save_photo(tmp_path / "in" / "a.png", 1)
    prepare_here(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "crops").symlink_to(tmp_path / "out" / "faces")
    with pytest.raises(UserError, match=r"is a link into the output folder .*out"):
        prepare_here(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--size", 8), "--size must be 16 to 1,024, not 8"),
        (("--near-copy", 145), "--near-copy must be -1 to 144"),
        (("--fps", 0), "--fps must be above 0"),
        (("--sharpness", -1), "--sharpness must be 0 or more"),
        (("--min-side", 10**9), "--min-side must be 1 to 20,000"),
        (("--min-score", "inf"), "--min-score must be 0 to 1,000, not inf"),
        (("--max-turn", "nan"), "--max-turn must be 0 or more, not nan"),
        (("--detector", "missing.onnx"), "no file missing.onnx; pass the ONNX file of a YuNet to --detector"),
        (("--form", "gif"), "gif"),
    ],
)
def test_invalid_arguments(arguments, expected, tmp_path):
    save_photo(tmp_path / "in" / "a.png", 1)
    output = call("prepare_faces.py", tmp_path / "in", tmp_path / "out", *arguments)
    assert output.code == 2
    assert expected in output.error
    assert output.error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    save_photo(tmp_path / "in" / "a.png", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparation, "_write_crop", full)
    with pytest.raises(
        UserError, match="out cannot be written to: No space left on device; finished work is kept"
    ):
        prepare_here(tmp_path / "in", tmp_path / "out")


def test_no_readable_photo(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    (folder / "empty.jpg").touch()
    for _ in ("first run", "nothing left to do"):
        line = refusal("prepare_faces.py", folder, out, "--workers", 0)
        assert f"no photo or video in {folder} can be read (2 tried); the first: a.jpg: " in line
        assert [row["verdict"] for row in read_manifest(out)] == ["unreadable"] * 2
    save_photo(folder / "b.png", 1)
    assert prepare_here(folder, out).new == 1


def test_missing_detector_leaves_nothing_behind(tmp_path):
    save_photo(tmp_path / "in" / "a.png", 1)
    (tmp_path / "no.onnx").write_text("not a network")
    with pytest.raises(UserError, match="is not a YuNet"):
        prepare_here(tmp_path / "in", tmp_path / "out", detector=tmp_path / "no.onnx")
    assert not (tmp_path / "out").exists()


def test_names_that_are_not_utf_8(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "a.png", 1)
    raw = os.fsdecode(b"caf\xe9")
    (folder / "a.png").rename(folder / f"{raw}.png")
    shutil.copy(folder / f"{raw}.png", folder / f"{raw}.mp4")
    ((name, reason),) = prepare_here(folder, out).unreadable.items()
    assert (name, reason[:23]) == (f"{raw}.mp4", "its name is not UTF-8, ")
    assert (out / "faces" / f"{raw}.png-0.jpg").is_file()
    assert prepare_here(folder, out).new == 0


def test_landmarks_by_run_number(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "outputs" / "landmarks" / "0003-mine"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    for number, message in ((3, "0003-mine"), (4, "4 is not a run")):
        output = call("prepare_faces.py", photos, tmp_path / "out", "--landmarks", number)
        assert output.code == 2
        assert message in output.error.splitlines()[-1]
