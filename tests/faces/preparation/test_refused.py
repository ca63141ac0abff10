"""Folders, words and names that do not fit: one line each, and nothing touched."""

import os
import shutil
from pathlib import Path

import pytest

from engine.errors import UserError
from faces.preparation import folder as run
from tests.faces.photos import save_photo
from tests.faces.preparation.prepared import (
    contents,
    manifest,
    quick,
)
from tests.in_process import call, refusal

pytest.importorskip("cv2", reason="needs the extra 'photos'")


@pytest.mark.parametrize(
    ("photos", "out", "expected"),
    [
        ("in", "in", "holds the photos; name another folder to write to"),
        ("in", "in/out", "lies in the folder of photos"),
        ("in/sub", "in", "lies in .*; name another folder to write to"),
        ("in", "file", "is a file; name a folder for the faces"),
        ("file", "out", "is a file; give the folder that holds the photos"),
        ("missing", "out", "no folder .*missing"),
        ("bare", "out", "no photo or video in .*bare; give a folder that holds some"),
        ("in", "other", "holds files that are no prepared faces; name a new or empty folder"),
        ("link", "in/out", "lies in the folder of photos"),
        ("in", "circle", "circle cannot be written to: File exists"),
    ],
)
def test_folders_that_do_not_fit_are_one_line(tmp_path, monkeypatch, photos, out, expected):
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
        quick(Path(photos), Path(out))
    assert contents(tmp_path) == before
    assert not (tmp_path / "in" / "out").exists()


def test_a_link_into_the_folder_that_is_written_to_is_seen(tmp_path):
    save_photo(tmp_path / "in" / "a.png", 1)
    quick(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "crops").symlink_to(tmp_path / "out" / "faces")
    with pytest.raises(UserError, match=r"is a link into .*out, which is written to"):
        quick(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--size", 8), "--size must be 16 to 1,024, not 8"),
        (("--near-copy", 145), "--near-copy must be -1 to 144"),
        (("--fps", 0), "--fps must be above 0"),
        (("--sharpness", -1), "--sharpness must be 0 or more"),
        (("--smallest", 10**9), "--smallest must be 1 to 20,000"),
        (("--least-score", "inf"), "--least-score must be 0 to 1,000, not inf"),
        (("--most-turned", "nan"), "--most-turned must be 0 or more, not nan"),
        (("--detector", "missing.onnx"), "no file missing.onnx; --detector takes the ONNX file of a YuNet"),
        (("--form", "gif"), "gif"),
    ],
)
def test_words_that_do_not_fit_are_one_line(words, expected, tmp_path):
    save_photo(tmp_path / "in" / "a.png", 1)
    told = call("prepare_faces.py", tmp_path / "in", tmp_path / "out", *words)
    assert told.code == 2
    assert expected in told.error
    assert told.error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, monkeypatch):
    save_photo(tmp_path / "in" / "a.png", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "_write", full)
    with pytest.raises(
        UserError, match="out cannot be written to: No space left on device; what is done stays"
    ):
        quick(tmp_path / "in", tmp_path / "out")


def test_where_no_photo_can_be_read_that_is_one_line_and_the_manifest_stays(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    (folder / "empty.jpg").touch()
    for _ in ("at first", "as nothing is left to do"):
        line = refusal("prepare_faces.py", folder, out, "--workers", 0)
        assert f"none of the 2 photos and videos in {folder} can be read; the first is a.jpg: " in line
        assert [row["verdict"] for row in manifest(out)] == ["unreadable"] * 2
    save_photo(folder / "b.png", 1)
    assert quick(folder, out).new == 1


def test_nothing_is_left_behind_where_there_is_no_detector(tmp_path):
    save_photo(tmp_path / "in" / "a.png", 1)
    (tmp_path / "no.onnx").write_text("no network")
    with pytest.raises(UserError, match="is no YuNet"):
        quick(tmp_path / "in", tmp_path / "out", detector=tmp_path / "no.onnx")
    assert not (tmp_path / "out").exists()


def test_names_that_are_not_utf_8(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "a.png", 1)
    raw = os.fsdecode(b"caf\xe9")
    (folder / "a.png").rename(folder / f"{raw}.png")
    shutil.copy(folder / f"{raw}.png", folder / f"{raw}.mp4")
    ((name, reason),) = quick(folder, out).unreadable
    assert (name, reason[:23]) == (f"{raw}.mp4", "its name is not UTF-8, ")
    assert (out / "faces" / f"{raw}.png-0.jpg").is_file()
    assert quick(folder, out).new == 0


def test_the_network_of_landmarks_may_be_told_by_its_runs_number(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "outputs" / "landmarks" / "0003-mine"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    for number, said in ((3, "0003-mine"), (4, "4 is not a run")):
        told = call("prepare_faces.py", photos, tmp_path / "out", "--landmarks", number)
        assert told.code == 2
        assert said in told.error.splitlines()[-1]
