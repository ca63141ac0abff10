"""prepare_faces.py as its user has it: photos of drawn faces in, crops, a manifest and contact sheets out."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from faces.prepare import PrepareChoice, cutter, prepare, run
from faces.prepare.sources import Job, crop_name
from gan.errors import UserError
from gan.images import load_png, to_pillow
from gan.listing import list_images
from tests.faces.photos import DrawnPoints, photo, save_photo
from tests.in_process import ROOT, call

cv2 = pytest.importorskip("cv2", reason="needs the extra 'photos'")

SOURCES = ["plain.jpg", "with space.jpg", "日本/ü é.png", "one/same.jpg", "two/same.jpg", "two/same.png"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six photos, each with another face, and files that are none; do not change it."""
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(SOURCES):
        save_photo(folder / name, number)
    (folder / "notes.txt").write_text("no photo")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    (folder / "empty.jpg").touch()
    Image.new("RGB", (60, 50), "white").save(folder / "nobody.png")
    return folder


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    """What the script made of them; do not change it."""
    out = tmp_path_factory.mktemp("made") / "out"
    before = contents(photos)
    told = call("prepare_faces.py", photos, out, "--workers", 0)
    assert told.code == 0, told.error
    assert contents(photos) == before
    return told, out


def contents(folder):
    """Every file's name, bytes and time of writing."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pixels(out):
    """Name and bytes of every crop and of the manifest."""
    files = [*out.glob("faces/**/*.*"), *out.glob("left_out/**/*.*"), out / "manifest.csv"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def manifest(out):
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def verdicts(out):
    return Counter(row["verdict"] for row in manifest(out))


def quick(photos, out, **changes):
    return prepare(PrepareChoice(photos, out, workers=0, **changes))


def folder_of(tmp_path, *photos):
    """A folder with these images, uint8 [3, H, W], as 0.png, 1.png ..."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, image in enumerate(photos):
        to_pillow(image).save(folder / f"{number}.png")
    return folder


def test_every_photo_gives_its_face_under_its_name(made):
    _, out = made
    crops = list_images(out / "faces").files
    assert crops == sorted(f"{name}-0.jpg" for name in SOURCES)
    for name in crops:
        with Image.open(out / "faces" / name) as crop:
            assert (crop.format, crop.size, crop.mode) == ("JPEG", (112, 112), "RGB")


def test_the_manifest_tells_of_every_file(made):
    _, out = made
    rows = {row["source"]: row for row in manifest(out)}
    assert sorted(rows) == sorted([*SOURCES, "broken.jpg", "empty.jpg", "nobody.png"])
    assert rows["nobody.png"]["verdict"] == "no face"
    assert rows["empty.jpg"]["note"] == "empty file"
    assert rows["broken.jpg"]["verdict"] == "unreadable"
    for number, name in enumerate(SOURCES):
        row = rows[name]
        assert row["verdict"] == "kept"
        assert (out / row["file"]).is_file()
        points = photo(number)[1]
        middle = [
            (float(row[low]) + float(row[high])) / 2 for low, high in (("left", "right"), ("top", "bottom"))
        ]
        assert np.abs(np.subtract(middle, (points.min(0) + points.max(0)) / 2)).max() < 15
        assert float(row["side"]) == pytest.approx(1.2 * (float(row["right"]) - float(row["left"])), abs=0.3)
        assert float(row["score"]) >= 4
        assert float(row["sharpness"]) >= 0.015


def test_what_is_said_counts_and_names(made):
    told, out = made
    assert told.lines[0] == f"6 faces, 6 of them kept in {out / 'faces'}"
    assert "1 photos without a face" in told.lines
    assert "2 files that could not be read, or not to their end:" in told.lines
    assert any("broken.jpg: " in line for line in told.lines)
    assert "6/6" in told.error or "9/9" in told.error  # the progress bar


def test_contact_sheets(made, tmp_path):
    _, out = made
    sheet = load_png(out / "kept.png")
    assert sheet.shape == (3, 112, 6 * 112 + 5 * 2) or sheet.shape == (3, 112, 10 * 114 - 2)
    assert not (out / "left_out.png").exists()


def test_a_second_run_does_nothing_and_says_so(made, photos):
    _, out = made
    before = contents(out)
    told = call("prepare_faces.py", photos, out, "--workers", 0)
    assert told.code == 0
    assert told.lines == [f"{out} holds the faces of all 9 photos already: nothing to do"]
    assert contents(out) == before


def test_several_processes_make_the_same(made, photos, tmp_path):
    summary = prepare(PrepareChoice(photos, tmp_path / "out", workers=2))
    assert summary.exit_code == 0
    assert pixels(tmp_path / "out") == pixels(made[1])


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
        return cutter.work(choice, job)

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
        "import sys, time; from faces.prepare import run, cutter, prepare, PrepareChoice\n"
        "from pathlib import Path\n"
        "def work(choice, job):\n"
        "    if job.source.startswith('two/'): time.sleep(600)\n"
        "    return cutter.work(choice, job)\n"
        "run.work = work\n"
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
    process.kill()
    process.wait()
    summary = quick(folder, out)
    assert 0 < summary.new < 9
    assert pixels(out) == pixels(made[1])


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


def test_each_reason_is_given_counted_and_shown(tmp_path):
    whole, _ = photo(1)
    points = photo(1)[1]
    edge = round(points[:, 0].min()) - 2
    blurred = to_pillow(photo(3)[0]).filter(ImageFilter.GaussianBlur(3.5))
    folder = folder_of(
        tmp_path,
        whole,
        photo(5, side=50)[0],
        np.ascontiguousarray(whole[:, :, edge:]),
        np.array(blurred).transpose(2, 0, 1),
        whole,
    )
    summary = quick(folder, tmp_path / "out", enlarge=2.0, smallest=90)
    assert [row["verdict"] for row in manifest(tmp_path / "out")] == [
        "kept",
        "too small",
        "cut off",
        "too blurred",
        "near-copy",
    ]
    assert summary.lines()[:5] == [
        f"5 faces, 1 of them kept in {tmp_path / 'out' / 'faces'}",
        "  1 too small",
        "  1 cut off",
        "  1 too blurred",
        "  1 near-copy",
    ]
    assert len(list_images(tmp_path / "out" / "left_out").files) == 4
    assert load_png(tmp_path / "out" / "left_out.png").shape[1] == 112


def test_near_copies_are_of_one_folder_alone_and_can_be_kept(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        save_photo(tmp_path / "in" / name, 1)
    quick(tmp_path / "in", tmp_path / "out")
    rows = {row["source"]: row["verdict"] for row in manifest(tmp_path / "out")}
    assert rows == {"a/1.png": "kept", "a/2.png": "near-copy", "b/1.png": "kept"}
    quick(tmp_path / "in", tmp_path / "all", near_copy=-1)
    assert verdicts(tmp_path / "all") == {"kept": 3}


def test_near_copies_are_known_from_the_sitting_before(tmp_path):
    save_photo(tmp_path / "in" / "1.png", 1)
    quick(tmp_path / "in", tmp_path / "out")
    save_photo(tmp_path / "in" / "2.png", 1)
    quick(tmp_path / "in", tmp_path / "out")
    assert verdicts(tmp_path / "out") == {"kept": 1, "near-copy": 1}


def test_png_size_and_enlargement(tmp_path):
    folder = folder_of(tmp_path, photo(1)[0])
    quick(folder, tmp_path / "out", form="png", size=64, enlarge=1.5)
    (row,) = manifest(tmp_path / "out")
    assert row["file"] == "faces/0.png-0.png"
    with Image.open(tmp_path / "out" / row["file"]) as crop:
        assert (crop.format, crop.size) == ("PNG", (64, 64))
    assert float(row["side"]) == pytest.approx(1.5 * (float(row["right"]) - float(row["left"])), abs=0.3)


def test_a_tilted_face_is_set_upright_where_that_is_asked_for(tmp_path):
    folder = folder_of(tmp_path, photo(3, tilt=20)[0])
    for upright in (True, False):
        quick(folder, tmp_path / f"{upright}", upright=upright, form="png")
    straight = folder_of(tmp_path / "True", photo(3)[0])
    quick(straight, tmp_path / "straight", upright=False, form="png")
    crops = {
        name: load_png(tmp_path / name / "faces" / "0.png-0.png").astype(int)
        for name in ("True", "False", "straight")
    }
    off = {name: np.abs(crops[name] - crops["straight"]).mean() for name in ("True", "False")}
    assert off["True"] < 0.7 * off["False"]
    assert float(manifest(tmp_path / "True")[0]["roll"]) == pytest.approx(20, abs=8)


class Drawn:
    """A predictor that knows the drawn face of number 3, tilted by 12 degrees."""

    point_set = DrawnPoints()

    def points(self, image, boxes):
        return np.stack([photo(3, tilt=12)[1]] * len(boxes)).astype(np.float32)


def test_landmarks_frame_the_face_and_turn_it_exactly(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, photo(3, tilt=12)[0])
    (tmp_path / "network.pt").touch()
    loaded = []
    module = type(sys)("faces.predictor")
    module.load_predictor = lambda path: loaded.append(path) or Drawn()
    monkeypatch.setitem(sys.modules, "faces.predictor", module)
    quick(folder, tmp_path / "out", landmarks=tmp_path / "network.pt", form="png")
    assert loaded == [tmp_path / "network.pt"]
    (row,) = manifest(tmp_path / "out")
    points = np.array(row["landmarks"].split(), float).reshape(-1, 2)
    np.testing.assert_allclose(points, photo(3, tilt=12)[1], atol=0.06)
    crop = load_png(tmp_path / "out" / row["file"]).astype(int)
    upright, straight = photo(3)
    from faces.align import cut, square_around_points
    from faces.pose import pose_of_landmarks

    roll = pose_of_landmarks(straight, DrawnPoints()).roll
    assert float(row["roll"]) == pytest.approx(roll + 12, abs=0.1)
    assert np.abs(crop - cut(upright, square_around_points(straight, roll, 1.2), 112)).mean() < 4


def test_landmarks_that_lie_elsewhere_are_not_believed(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, photo(3, tilt=12)[0])
    module = type(sys)("faces.predictor")
    module.load_predictor = lambda path: Drawn()
    monkeypatch.setitem(sys.modules, "faces.predictor", module)
    monkeypatch.setattr(Drawn, "points", lambda *_: np.full((1, 29, 2), 1e5, np.float32))
    quick(folder, tmp_path / "lost", landmarks=tmp_path / "lost.pt")
    quick(folder, tmp_path / "none")
    assert (tmp_path / "lost" / "manifest.csv").read_bytes() == (
        tmp_path / "none" / "manifest.csv"
    ).read_bytes()


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


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_photos_are_set_upright_by_their_exif_orientation(tmp_path, orientation):
    image, points = photo(1)
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (tmp_path / "in").mkdir()
    to_pillow(image).transpose(turns[orientation]).save(tmp_path / "in" / "a.png", exif=exif)
    quick(tmp_path / "in", tmp_path / "out")
    (row,) = manifest(tmp_path / "out")
    assert row["verdict"] == "kept"
    assert float(row["left"]) == pytest.approx(points[:, 0].min(), abs=20)
    assert float(row["top"]) == pytest.approx(points[:, 1].min(), abs=20)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_photos_of_every_mode(tmp_path, mode):
    image = to_pillow(photo(1)[0])
    (tmp_path / "in").mkdir()
    if mode == "I;16":
        odd = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        odd = image.convert(mode)
    odd.save(tmp_path / "in" / ("a.tif" if mode == "CMYK" else "a.png"))
    quick(tmp_path / "in", tmp_path / "out")
    assert verdicts(tmp_path / "out") == {"kept": 1}


@pytest.fixture
def video(tmp_path):
    """Four seconds at 5 frames a second: a face, another one, and a broken video beside it."""
    folder = tmp_path / "in"
    folder.mkdir()
    writer = cv2.VideoWriter(str(folder / "my film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (220, 180))
    for number in (1, 3):
        frame = np.moveaxis(photo(number)[0][::-1], 0, -1)
        for _ in range(10):
            writer.write(np.ascontiguousarray(frame))
    writer.release()
    (folder / "broken.mp4").write_bytes(bytes(1000))
    return folder


def test_videos_are_sampled_and_named_by_their_frames(video, tmp_path):
    summary = quick(video, tmp_path / "out", fps=2.5, near_copy=-1)
    assert summary.unreadable == [("broken.mp4", "no video that can be read")]
    assert list_images(tmp_path / "out" / "faces").files == [
        f"my film.avi-{frame:06d}-0.jpg" for frame in range(0, 20, 2)
    ]
    quick(video, tmp_path / "few")
    assert verdicts(tmp_path / "few") == {"kept": 2, "near-copy": 2, "unreadable": 1}


def test_a_long_video_is_done_in_parts_that_survive_a_kill(video, tmp_path, monkeypatch):
    monkeypatch.setattr("faces.prepare.sources.FRAMES_EACH", 3)
    whole = quick(video, tmp_path / "whole", fps=2.5, near_copy=-1)
    assert whole.jobs == 1 + 4
    calls = []

    def work(choice, job):
        calls.append(job.part)
        if job.part == 2:
            raise Killed
        return cutter.work(choice, job)

    with monkeypatch.context() as patch:
        patch.setattr(run, "work", work)
        with pytest.raises(Killed):
            quick(video, tmp_path / "out", fps=2.5, near_copy=-1)
    assert quick(video, tmp_path / "out", fps=2.5, near_copy=-1).new == 3
    assert pixels(tmp_path / "out") == pixels(tmp_path / "whole")


def test_names_of_crops():
    assert crop_name(Job("a/me.png"), None, 0, ".jpg") == "a/me.png-0.jpg"
    assert crop_name(Job("me.mp4"), 125, 1, ".png") == "me.mp4-000125-1.png"
    long = [crop_name(Job("a/" + "é" * 120 + end), 125, 1, ".jpg") for end in ("1.png", "2.png")]
    assert long[0] != long[1]
    assert all(len(os.fsencode(name.rpartition("/")[2])) < 255 for name in long)


def test_nothing_is_left_behind_where_there_is_no_detector(tmp_path):
    save_photo(tmp_path / "in" / "a.png", 1)
    (tmp_path / "no.onnx").write_text("no network")
    with pytest.raises(UserError, match="is no YuNet"):
        quick(tmp_path / "in", tmp_path / "out", detector=tmp_path / "no.onnx")
    assert not (tmp_path / "out").exists()


def test_help_imports_neither_torch_nor_opencv():
    program = (
        "import sys; sys.argv = ['prepare_faces.py', '--help']; import prepare_faces\n"
        "try: prepare_faces.main()\n"
        "except SystemExit: sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "PHOTOS" in done.stdout


def test_the_note_holds_every_rule_that_was_followed(made):
    note = json.loads((made[1] / "prepare.json").read_text(encoding="utf-8"))
    assert note["finished"] is True
    assert note["rules"]["size"] == 112
    assert note["rules"]["smallest"] == 56
    assert "workers" not in note["rules"]
