"""A folder that was prepared in part, or before: stopped, killed, finished, or begun by other rules."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from engine.png import load_png
from faces.preparation import PrepareChoice, prepare
from faces.preparation import cropper as cropper
from faces.preparation import folder as run
from tests.faces.detection.tiny_yunet import save_other_network, save_tiny_yunet
from tests.faces.photos import save_photo
from tests.faces.preparation.prepared import (
    contents,
    manifest,
    pixels,
    quick,
    verdicts,
)
from tests.in_process import ROOT, call

pytest.importorskip("cv2", reason="needs the extra 'photos'")


def test_a_second_run_does_nothing_and_says_so(made, photos):
    _, out = made
    before = contents(out)
    told = call("prepare_faces.py", photos, out, "--workers", 0)
    assert told.code == 0
    assert told.lines == [f"{out} holds the faces of all 9 photos already: nothing to do"]
    assert contents(out) == before


def test_other_rules_are_refused_and_named(made, photos):
    _, out = made
    before = contents(out)
    for words, named in (
        (("--size", 96), "begun with --size 112, and now it is 96"),
        (("--no-upright",), "begun with --upright True, and now it is False"),
        (("--near-copy", -1), "--near-copy 24, and now it is -1"),
    ):
        told = call("prepare_faces.py", photos, out, *words)
        assert told.code == 2
        assert named in told.error
        assert "name another folder, or delete this one" in told.error
    assert contents(out) == before


def test_a_network_that_changed_under_its_name_is_refused(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "1.png", 1)
    network = tmp_path / "0001-run"
    (network / "checkpoints").mkdir(parents=True)
    (network / "checkpoints" / "best.pt").write_text("one network")
    module = type(sys)("faces.landmarks.predictor")
    module.load_predictor = lambda path: Nowhere()
    monkeypatch.setitem(sys.modules, "faces.landmarks.predictor", module)
    assert quick(folder, out, landmarks=network).new == 1
    (network / "checkpoints" / "step_000002.pt").write_text("another one, which is not the best")
    assert quick(folder, out, landmarks=network).new == 0
    save_photo(folder / "3.png", 3)
    (network / "checkpoints" / "best.pt").write_text("another network")
    before = contents(out)
    with pytest.raises(UserError, match=r"begun with another --landmarks: what .*0001-run holds has chan"):
        quick(folder, out, landmarks=network)
    assert contents(out) == before
    # As a folder was left before digests were noted.
    note = json.loads((out / "prepare.json").read_text())
    del note["digests"]
    (out / "prepare.json").write_text(json.dumps(note))
    cropper.load_cutter.cache_clear()
    assert quick(folder, out, landmarks=network).new == 1
    (network / "checkpoints" / "best.pt").write_text("a third network")
    with pytest.raises(UserError, match="another --landmarks"):
        quick(folder, out, landmarks=network)


class Nowhere:
    """A predictor whose landmarks lie elsewhere than the faces."""

    def points(self, image, boxes):
        return np.full((len(boxes), 29, 2), 1e5, np.float32)


def test_a_detector_that_is_gone_hinders_nothing_where_nothing_is_left_to_do(tmp_path):
    pytest.importorskip("onnx", reason="needs onnx to make a small network")
    folder, out, detector = tmp_path / "in", tmp_path / "out", tmp_path / "tiny.onnx"
    save_photo(folder / "1.png", 1)
    save_tiny_yunet(detector)
    assert quick(folder, out, detector=detector).new == 1
    detector.rename(tmp_path / "away.onnx")
    assert quick(folder, out, detector=detector).new == 0
    save_photo(folder / "3.png", 3)
    cropper.load_cutter.cache_clear()
    with pytest.raises(UserError, match=r"no file .*tiny\.onnx"):
        quick(folder, out, detector=detector)
    save_other_network(detector)
    with pytest.raises(UserError, match="was begun with another --detector"):
        quick(folder, out, detector=detector)
    (tmp_path / "away.onnx").replace(detector)
    assert quick(folder, out, detector=detector).new == 1


def test_new_photos_are_added_and_the_rest_stays(photos, made, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(photos, folder)
    late = folder / "two" / "same.png"
    late.rename(tmp_path / "late.png")
    assert quick(folder, out).new == 8
    (tmp_path / "late.png").rename(late)
    summary = quick(folder, out)
    assert (summary.new, summary.done, summary.jobs) == (1, 9, 9)
    assert {name: data for name, data in pixels(out).items() if name != "manifest.csv"} == {
        name: data for name, data in pixels(made[1]).items() if name != "manifest.csv"
    }
    assert quick(folder, out).new == 0


def test_crops_that_the_user_deleted_stay_away_and_hinder_nothing(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in (0, 1):
        save_photo(folder / f"{number}.png", number)
    quick(folder, out)
    (out / manifest(out)[0]["file"]).unlink()
    save_photo(folder / "late.png", 3)
    assert quick(folder, out).new == 1
    assert quick(folder, out).new == 0
    assert not (out / manifest(out)[0]["file"]).exists()
    for path in [*out.glob("faces/*"), *out.glob("left_out/*")]:
        path.unlink()
    save_photo(folder / "later.png", 5)
    assert quick(folder, out).new == 1


def test_crops_that_the_user_changed_or_that_are_spoilt_hinder_nothing(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in (1, 3):
        save_photo(folder / f"{number}.png", number)
    quick(folder, out, near_copy=-1)
    larger, spoilt = (out / row["file"] for row in manifest(out))
    Image.new("RGB", (300, 200)).save(larger)
    spoilt.write_bytes(b"")
    save_photo(folder / "5.png", 5)
    assert quick(folder, out, near_copy=-1).new == 1
    sheet = load_png(out / "kept.png")
    assert np.array_equal(sheet[:, :, :112], load_png(out / manifest(out)[-1]["file"]))
    assert (sheet[:, :, 112:] == 255).all()


def test_a_manifest_that_was_changed_by_hand_is_one_line(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "1.png", 1)
    quick(folder, out)
    table = out / "manifest.csv"
    table.write_text(table.read_text().replace(manifest(out)[0]["hash"], "1.2E+35"))
    save_photo(folder / "3.png", 3)
    with pytest.raises(UserError, match=r"manifest\.csv, 1\.png: the hash 1\.2E\+35 is none; restore it"):
        quick(folder, out)


def test_with_nothing_left_to_do_but_the_sheets_processes_hinder_nothing(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in (1, 3):
        save_photo(folder / f"{number}.png", number)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "save_sheet", die)
        with pytest.raises(Killed):
            quick(folder, out)
    (folder / "3.png").unlink()
    summary = prepare(PrepareChoice(folder, out, workers=2))
    assert (summary.new, summary.done, summary.jobs) == (0, 1, 1)
    assert (out / "kept.png").is_file()


class Killed(BaseException):
    pass


def test_killed_before_anything_is_done_it_can_begin_again(tmp_path, monkeypatch):
    save_photo(tmp_path / "in" / "a.png", 1)

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "Manifest", die)
        with pytest.raises(Killed):
            quick(tmp_path / "in", tmp_path / "out")
    assert quick(tmp_path / "in", tmp_path / "out").new == 1


@pytest.mark.parametrize("where", ["between", "in the middle of a manifest's line", "before the sheets"])
def test_killed_anywhere_it_goes_on_to_the_same_end(photos, made, tmp_path, monkeypatch, where):
    out = tmp_path / "out"
    seen = []

    def work(choice, job):
        seen.append(job.source)
        if where != "before the sheets" and len(seen) == 5:
            raise Killed
        return cropper.work(choice, job)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "work", work)
        if where == "before the sheets":
            patch.setattr(run, "save_sheet", die)
        with pytest.raises(Killed):
            quick(photos, out)
    path = out / "manifest.csv"
    if where == "in the middle of a manifest's line":
        path.write_bytes(path.read_bytes()[:-20])
    (out / "faces" / f".{seen[0]}-0-1a2b3c.jpg").write_bytes(b"half of a")
    summary = quick(photos, out)
    assert summary.done == summary.jobs == 9
    assert summary.new < 9
    assert {name: data for name, data in pixels(out).items() if "/." not in name} == pixels(made[1])
    assert (out / "kept.png").read_bytes() == (made[1] / "kept.png").read_bytes()


def test_ctrl_c_saves_says_so_and_the_same_command_goes_on(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "000.png", 1)
    for number in range(1, 400):
        (folder / f"{number:03d}.png").hardlink_to(folder / "000.png")
    process = subprocess.Popen(
        [sys.executable, ROOT / "prepare_faces.py", folder, out, "--workers", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out / "manifest.csv").exists() or (out / "manifest.csv").read_bytes().count(b"\n") < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    rows = len(manifest(out))
    assert 3 <= rows < 400
    assert f"stopped after {rows} of 400 photos; the same command goes on" in told
    assert (out / "left_out.png").is_file()
    for path in sorted(folder.iterdir())[rows + 2 :]:
        path.unlink()
    assert quick(folder, out).new <= 3
    assert verdicts(out) == {"kept": 1, "near-copy": rows + 1}


def test_kill_9_leaves_what_can_be_gone_on_with(photos, made, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(photos, folder)
    program = (
        "import sys, time; from faces.preparation import folder, cropper, prepare, PrepareChoice\n"
        "from pathlib import Path\n"
        "def work(choice, job):\n"
        "    if job.source.startswith('two/'): time.sleep(600)\n"
        "    return cropper.work(choice, job)\n"
        "folder.work = work\n"
        "prepare(PrepareChoice(Path(sys.argv[1]), Path(sys.argv[2]), workers=0))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, folder, out], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    while not (out / "manifest.csv").exists() or b"one/same" not in (out / "manifest.csv").read_bytes():
        assert process.poll() is None
        time.sleep(0.02)
    with pytest.raises(UserError, match="another process is preparing faces in"):
        quick(folder, out)
    process.kill()  # after the row, so perhaps in the middle of its crop
    process.wait()
    summary = quick(folder, out)
    assert 0 < summary.new < 9
    assert pixels(out) == pixels(made[1])


def test_near_copies_are_known_from_the_sitting_before(tmp_path):
    save_photo(tmp_path / "in" / "1.png", 1)
    quick(tmp_path / "in", tmp_path / "out")
    save_photo(tmp_path / "in" / "2.png", 1)
    quick(tmp_path / "in", tmp_path / "out")
    assert verdicts(tmp_path / "out") == {"kept": 1, "near-copy": 1}


def stop(out):
    """Leave a finished folder as Ctrl-C does."""
    note = json.loads((out / "prepare.json").read_text())
    (out / "prepare.json").write_text(json.dumps(note | {"finished": False}))


def crops(out):
    return sorted(path.relative_to(out).as_posix() for path in out.glob("*/*") if path.is_file())


def test_a_crop_that_is_left_out_when_it_is_made_again_does_not_stay_where_it_was(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "b.png", 1)
    quick(folder, out)
    stop(out)
    shutil.copy(folder / "b.png", folder / "a.png")
    quick(folder, out)
    assert crops(out) == ["faces/a.png-0.jpg", "left_out/b.png-0.jpg"]
    assert crops(out) == sorted(row["file"] for row in manifest(out))


def test_what_came_of_the_last_photo_stays_where_that_is_gone(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "b.png", 1)
    quick(folder, out)
    stop(out)
    (folder / "b.png").rename(folder / "a.png")
    quick(folder, out)
    assert crops(out) == ["faces/b.png-0.jpg", "left_out/a.png-0.jpg"]
    assert crops(out) == sorted(row["file"] for row in manifest(out))


def test_killed_as_it_wrote_a_crop_it_leaves_none_that_no_row_tells_of(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "b.png", 1)
    write = run._write

    def die(path, crop):
        write(path, crop)
        (path.parent / f".{path.stem}-0123456789ab.jpg").write_bytes(b"half of a")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "_write", die)
        with pytest.raises(Killed):
            quick(folder, out)
    shutil.copy(folder / "b.png", folder / "a.png")
    quick(folder, out)
    assert crops(out) == ["faces/a.png-0.jpg", "left_out/b.png-0.jpg"]


def test_a_long_video_is_done_in_parts_that_survive_a_kill(video, tmp_path, monkeypatch):
    monkeypatch.setattr("faces.preparation.sources.FRAMES_EACH", 3)
    whole = quick(video, tmp_path / "whole", fps=2.5, near_copy=-1)
    assert whole.jobs == 1 + 4
    calls = []

    def work(choice, job):
        calls.append(job.part)
        if job.part == 2:
            raise Killed
        return cropper.work(choice, job)

    with monkeypatch.context() as patch:
        patch.setattr(run, "work", work)
        with pytest.raises(Killed):
            quick(video, tmp_path / "out", fps=2.5, near_copy=-1)
    assert quick(video, tmp_path / "out", fps=2.5, near_copy=-1).new == 3
    assert pixels(tmp_path / "out") == pixels(tmp_path / "whole")
