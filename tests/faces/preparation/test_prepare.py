"""prepare_faces.py as its user has it: photos of drawn faces in, crops, a manifest and contact sheets out."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from engine.png import load_png, to_pillow
from faces.align import cut, square_around_points
from faces.pose import pose_of_landmarks
from faces.preparation import PrepareChoice, prepare
from faces.preparation import cropper as cropper
from faces.preparation.contact_sheets import save_sheet
from faces.preparation.manifest import Row
from faces.preparation.sources import Job, crop_name
from images.scan import list_images
from images.tiles import number_tiles
from tests.faces.detection.tiny_yunet import POINTS, save_tiny_yunet
from tests.faces.photos import DrawnPoints, photo, save_photo
from tests.faces.preparation.prepared import (
    SOURCES,
    folder_of,
    manifest,
    pixels,
    quick,
    verdicts,
)
from tests.in_process import ROOT

pytest.importorskip("cv2", reason="needs the extra 'photos'")


def test_every_photo_gives_its_face_under_its_name(made):
    _, out = made
    crops = list_images(out / "faces").files
    assert crops == sorted(f"{name}-0.jpg" for name in SOURCES)
    for name in crops:
        with Image.open(out / "faces" / name) as crop:
            assert (crop.format, crop.size, crop.mode) == ("JPEG", (112, 112), "RGB")
            assert crop.quantization[0][:6] == [2, 1, 1, 2, 2, 4]  # quality 95


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


def test_contact_sheets_hold_the_crops(made):
    _, out = made
    sheet = load_png(out / "kept.png")
    assert sheet.shape == (3, 112, 10 * 114 - 2)
    shown = [sheet[:, :, 114 * index : 114 * index + 112] for index in range(6)]
    crops = [load_png(out / row["file"]) for row in manifest(out) if row["file"]]
    np.testing.assert_array_equal(shown, crops)
    assert (sheet[:, :, 6 * 114 :] == 255).all()
    assert not (out / "left_out.png").exists()


def test_a_contact_sheet_shows_a_hundred_of_many(tmp_path):
    for index in range(130):
        Image.new("RGB", (16, 16), (index, 0, 0)).save(tmp_path / f"{index}.png")
    rows = [Row(f"{index}", "0", verdict="kept", file=f"{index}.png") for index in range(130)]
    save_sheet(tmp_path / "sheet.png", tmp_path, rows, 16)
    sheet = load_png(tmp_path / "sheet.png")
    assert sheet.shape == (3, 10 * 18 - 2, 10 * 18 - 2)
    reds = sheet[0, 8::18, 8::18].ravel()
    assert len({*reds.tolist()}) == 100
    assert (np.diff(reds.astype(int)) > 0).all()
    assert reds.min() < 10
    assert reds.max() > 119


def test_several_processes_make_the_same(made, photos, tmp_path):
    summary = prepare(PrepareChoice(photos, tmp_path / "out", workers=2))
    assert summary.exit_code == 0
    assert pixels(tmp_path / "out") == pixels(made[1])


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
    sheet = load_png(tmp_path / "out" / "left_out.png")
    assert sheet.shape == (3, 112, 10 * 114 - 2)
    left_out = sorted(
        (row["verdict"], row["file"]) for row in manifest(tmp_path / "out") if row["file"][0] == "l"
    )
    words = ["cut", "near-copy", "blurred", "small"]
    crops = np.stack([load_png(tmp_path / "out" / file) for _, file in left_out])
    labelled = number_tiles(crops, words)
    assert (labelled != crops).any((1, 2, 3)).all()
    for index, tile in enumerate(labelled):
        np.testing.assert_array_equal(sheet[:, :, 114 * index : 114 * index + 112], tile)
    assert (sheet[:, :, 114 * 4 :] == 255).all()


def test_near_copies_are_of_one_folder_alone_and_can_be_kept(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        save_photo(tmp_path / "in" / name, 1)
    quick(tmp_path / "in", tmp_path / "out")
    rows = {row["source"]: row["verdict"] for row in manifest(tmp_path / "out")}
    assert rows == {"a/1.png": "kept", "a/2.png": "near-copy", "b/1.png": "kept"}
    quick(tmp_path / "in", tmp_path / "all", near_copy=-1)
    assert verdicts(tmp_path / "all") == {"kept": 3}


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
    module = type(sys)("faces.landmarks.predictor")
    module.load_predictor = lambda path: loaded.append(path) or Drawn()
    monkeypatch.setitem(sys.modules, "faces.landmarks.predictor", module)
    quick(folder, tmp_path / "out", landmarks=tmp_path / "network.pt", form="png")
    assert loaded == [tmp_path / "network.pt"]
    (row,) = manifest(tmp_path / "out")
    points = np.array(row["landmarks"].split(), float).reshape(-1, 2)
    np.testing.assert_allclose(points, photo(3, tilt=12)[1], atol=0.06)
    crop = load_png(tmp_path / "out" / row["file"]).astype(int)
    upright, straight = photo(3)
    roll = pose_of_landmarks(straight, DrawnPoints()).roll
    assert float(row["roll"]) == pytest.approx(roll + 12, abs=0.1)
    assert np.abs(crop - cut(upright, square_around_points(straight, roll, 1.2), 112)).mean() < 4


def test_landmarks_that_lie_elsewhere_are_not_believed(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, photo(3, tilt=12)[0])
    module = type(sys)("faces.landmarks.predictor")
    module.load_predictor = lambda path: Drawn()
    monkeypatch.setitem(sys.modules, "faces.landmarks.predictor", module)
    monkeypatch.setattr(Drawn, "points", lambda *_: np.full((1, 29, 2), 1e5, np.float32))
    quick(folder, tmp_path / "lost", landmarks=tmp_path / "lost.pt")
    quick(folder, tmp_path / "none")
    assert (tmp_path / "lost" / "manifest.csv").read_bytes() == (
        tmp_path / "none" / "manifest.csv"
    ).read_bytes()


def test_the_manifest_has_the_points_of_a_yunet_that_turned_the_face(tmp_path):
    pytest.importorskip("onnx", reason="needs onnx to make a small network")
    save_tiny_yunet(tmp_path / "tiny.onnx")
    image = np.zeros((3, 120, 160), np.uint8)
    image[0, 56:64, 72:80] = 255  # a face for this network, its middle at 76, 60
    quick(folder_of(tmp_path, image), tmp_path / "out", detector=tmp_path / "tiny.onnx")
    (row,) = manifest(tmp_path / "out")
    points = np.array(row["landmarks"].split(), float).reshape(5, 2)
    np.testing.assert_allclose(points, np.add(POINTS, (76, 60)), atol=0.15)
    (left, right, nose, *mouth), between = points, points[1] - points[0]
    beside = (np.mean([nose, np.mean(mouth, 0)], 0) - (left + right) / 2) @ between / (between @ between)
    assert float(row["roll"]) == pytest.approx(np.degrees(np.arctan2(between[1], between[0])), abs=0.5)
    assert float(row["turn"]) == pytest.approx(beside, abs=0.01)


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


def test_videos_are_sampled_and_named_by_their_frames(video, tmp_path):
    summary = quick(video, tmp_path / "out", fps=2.5, near_copy=-1)
    assert summary.unreadable == [("broken.mp4", "no video that can be read")]
    assert list_images(tmp_path / "out" / "faces").files == [
        f"my film.avi-{frame:06d}-0.jpg" for frame in range(0, 20, 2)
    ]
    quick(video, tmp_path / "few")
    assert verdicts(tmp_path / "few") == {"kept": 2, "near-copy": 2, "unreadable": 1}


def test_a_damaged_video_is_one_file_and_none_without_a_face(video, tmp_path, monkeypatch):
    monkeypatch.setattr("faces.preparation.sources.FRAMES_EACH", 4)
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'photos'")
    (video / "broken.mp4").unlink()
    film = video / "my film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 5, (220, 180))
    frame = np.ascontiguousarray(np.moveaxis(photo(1)[0][::-1], 0, -1))
    for _ in range(65):
        writer.write(frame)
    writer.release()
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 3])
    summary = quick(video, tmp_path / "out")
    # Of the four stretches, of 20 frames and at last 5, the first is whole and the second ends in its midst,
    # which a length that is told too long could be.
    assert [(row["part"], row["verdict"]) for row in manifest(tmp_path / "out")][-2:] == [
        ("2", "unreadable"),
        ("3", "unreadable"),
    ]
    ((name, reason),) = summary.unreadable
    assert (name, reason) == ("my film.avi", "damaged: it ends before frame 40 of 60 or more")
    assert summary.lines()[-3:] == [
        "0 photos without a face",
        "1 files that could not be read, or not to their end:",
        f"  my film.avi: {reason}",
    ]


def test_a_video_without_a_face_counts_once(tmp_path, monkeypatch):
    monkeypatch.setattr("faces.preparation.sources.FRAMES_EACH", 2)
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'photos'")
    (tmp_path / "in").mkdir()
    writer = cv2.VideoWriter(str(tmp_path / "in" / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (60, 50))
    for _ in range(25):
        writer.write(np.full((50, 60, 3), 255, np.uint8))
    writer.release()
    summary = quick(tmp_path / "in", tmp_path / "out")
    assert verdicts(tmp_path / "out") == {"no face": 3}
    assert "1 photos without a face" in summary.lines()


@pytest.mark.parametrize("error", ["memory", "opencv"])
def test_a_photo_whose_search_fails_is_left_out_with_the_reason(tmp_path, monkeypatch, error):
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'photos'")
    folder = folder_of(tmp_path, photo(1)[0], photo(3)[0])
    search = cropper.Cropper._pose_of

    def fail_at_first(*words):
        monkeypatch.setattr(cropper.Cropper, "_pose_of", search)
        raise MemoryError if error == "memory" else cv2.error("(-4) Failed to\nallocate")

    monkeypatch.setattr(cropper.Cropper, "_pose_of", fail_at_first)
    summary = quick(folder, tmp_path / "out")
    reason = {
        "memory": "not enough memory to look for faces in it",
        "opencv": "OpenCV fails at it: (-4) Failed to allocate",
    }[error]
    assert summary.unreadable == [("0.png", reason)]
    assert [(row["source"], row["verdict"], row["note"]) for row in manifest(tmp_path / "out")] == [
        ("0.png", "unreadable", reason),
        ("1.png", "kept", ""),
    ]


def test_a_bug_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(cropper.Cropper, "_pose_of", lambda *_: {}["bug"])
    with pytest.raises(KeyError):
        quick(folder_of(tmp_path, photo(1)[0]), tmp_path / "out")


def test_names_of_crops():
    assert crop_name(Job("a/me.png"), None, 0, ".jpg") == "a/me.png-0.jpg"
    assert crop_name(Job("me.mp4"), 125, 1, ".png") == "me.mp4-000125-1.png"
    like_a_frame = crop_name(Job("me.MP4-000125"), None, 1, ".png")
    assert like_a_frame.startswith("me.MP4-000125~")
    assert crop_name(Job("me.mp4-25"), None, 1, ".png") == "me.mp4-25-1.png"
    long = [crop_name(Job("a/" + "é" * 120 + end), 125, 1, ".jpg") for end in ("1.png", "2.png")]
    assert long[0] != long[1]
    assert all(len(os.fsencode(name.rpartition("/")[2])) < 255 for name in long)


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
