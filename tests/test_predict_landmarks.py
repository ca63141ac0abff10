"""predict_landmarks.py from the command line."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measuring import Cost
from engine.png import load_png, save_png
from engine.runs import checkpoints
from faces.detection import Detection
from faces.landmarks.annotations import read_annotations
from faces.landmarks.geometry import bounding_boxes
from tests.in_process import call


@pytest.fixture
def photos(drawn_faces, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "фото 1"
    folder.mkdir()
    for number in range(4):
        shutil.copy(drawn_faces / f"{number:05d}.png", folder)
    return folder


def rows(path: Path = Path("out/landmarks.csv")) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_whole_image(photos, landmark_run, drawn_faces):
    before = {path: path.read_bytes() for path in photos.iterdir()}
    result = call("predict_landmarks.py", landmark_run, photos, "--whole-image", "--output", "out")
    assert result.code == 0, result.error
    assert "4 faces in 4 photos (0 left out), 29 points each" in result.lines[0]
    assert result.lines[-1] == "out"
    header, *faces = rows()
    assert header[:3] == ["file", "x0", "y0"]
    assert len(header) == 59
    true = read_annotations(drawn_faces).points[:4]
    points = np.array([[float(value) for value in face[1:]] for face in faces]).reshape(4, 29, 2)
    assert np.linalg.norm(points - true, axis=2).mean() < 4
    copy, photo = load_png("out/00002.png"), load_png(photos / "00002.png")
    assert copy.shape == photo.shape
    x, y = points[2, 22].astype(int)
    assert tuple(copy[:, y, x]) == (255, 80, 60)
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
    # Training can read the output.
    assert np.array_equal(read_annotations(Path(), "out/landmarks.csv").points, points)


def test_boxes(photos, landmark_run, drawn_faces):
    true = read_annotations(drawn_faces).points
    lines = ["source,file,left,top,right,bottom"]
    for number, face in [(0, 0), (0, 0), (2, 2)]:
        lines.append(
            f"x,{number:05d}.png," + ",".join(f"{value:.1f}" for value in bounding_boxes(true[face]))
        )
    Path("boxes.csv").write_text("\n".join(lines))
    result = call("predict_landmarks.py", landmark_run, photos, "--boxes", "boxes.csv", "--output", "out")
    assert result.code == 0, result.error
    assert "3 faces in 4 photos" in result.lines[0]
    assert [Path(row[0]).name for row in rows()[1:]] == ["00000.png", "00000.png", "00002.png"]


def test_boxes_of_other_photos_are_ignored(photos, landmark_run):
    """Rows name files by paths relative to the table or an input folder, or by names alone."""
    (photos / "more").mkdir()
    (photos / "00003.png").rename(photos / "more" / "00003.png")
    (photos / "more" / "empty.png").touch()
    rest = ",10,10,54,54"
    lines = ["file,left,top,right,bottom"]
    lines += [f"{name}{rest}" for name in ("00000.png", "more/00003.png", "more/empty.png", "00002.png")]
    (photos / "boxes.csv").write_text("\n".join(lines))
    for given, files in (
        ((photos / "00002.png",), ["00002.png"]),
        ((photos / "more",), ["00003.png"]),
        ((photos,), ["00000.png", "00002.png", "00003.png"]),
    ):
        arguments = ("--boxes", photos / "boxes.csv", "--output", f"out {len(files)} {files[0]}")
        result = call("predict_landmarks.py", landmark_run, *given, *arguments)
        assert result.code == 0, result.error
        assert [Path(row[0]).name for row in rows(Path(arguments[-1], "landmarks.csv"))[1:]] == files


def test_box_with_a_path_does_not_apply_to_other_photos_of_that_name(photos, landmark_run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "00001.png", other / "00000.png")
    shutil.copy(photos / "00001.png", other / "00009.png")
    (photos / "boxes.csv").write_text(
        "file,left,top,right,bottom\n00000.png,10,10,54,54\n00009.png,10,10,54,54\n"
    )
    arguments = (photos / "00000.png", other, "--boxes", photos / "boxes.csv", "--output", "out")
    result = call("predict_landmarks.py", landmark_run, *arguments)
    assert result.code == 0, result.error
    assert [Path(row[0]) for row in rows()[1:]] == [photos / "00000.png", other / "00009.png"]


def test_points_outside_their_photo_are_reported(photos, landmark_run):
    for number in range(4):  # keep half of the face
        save_png(photos / f"{number:05d}.png", load_png(photos / f"{number:05d}.png")[:, :, :30])
    lines = ["file,left,top,right,bottom", *(f"{number:05d}.png,10,10,54,54" for number in range(4))]
    Path("boxes.csv").write_text("\n".join(lines))
    result = call("predict_landmarks.py", landmark_run, photos, "--boxes", "boxes.csv", "--output", "out")
    assert result.code == 0, result.error
    points = np.array([[float(value) for value in face[1:]] for face in rows()[1:]]).reshape(4, 29, 2)
    outside = ((points < 0) | (points > (30, 64))).any(-1).sum(1)
    assert outside.sum() > 0
    message = f"outside their photo: {outside.sum()} points of {(outside > 0).sum()} faces"
    assert result.lines[0].endswith(message)


def test_detector_is_the_default(photos, landmark_run, monkeypatch):
    def detector(image: np.ndarray, min_width: float = 0.0) -> list[Detection]:
        assert (image.dtype, image.shape) == (np.uint8, (3, 64, 64))
        return [Detection((10, 12, 50, 52), 5.0), Detection((5, 5, 60, 60), 4.0)]

    monkeypatch.setattr("faces.detection.load_detector", lambda path: detector)
    result = call("predict_landmarks.py", landmark_run, photos, "--output", "out")
    assert result.code == 0, result.error
    assert "8 faces in 4 photos" in result.lines[0]
    assert len(rows()) == 9


def test_failed_detection_leaves_out_the_photo(photos, landmark_run, monkeypatch):
    cv2 = pytest.importorskip("cv2", reason="the extra 'photos' is not installed")
    errors = iter([MemoryError, cv2.error("(-4) Failed to\nallocate")])

    def detector(image: np.ndarray) -> list[Detection]:
        for error in errors:
            raise error
        return [Detection((10, 12, 50, 52), 5.0)]

    monkeypatch.setattr("faces.detection.load_detector", lambda path: detector)
    result = call("predict_landmarks.py", landmark_run, photos, "--output", "out")
    assert result.code == 0, result.error
    assert "2 faces in 2 photos (2 left out)" in result.lines[0]
    assert [line.partition(".png: ")[2] for line in result.lines[1:3]] == [
        "not enough memory for face detection",
        "OpenCV fails: (-4) Failed to allocate",
    ]


def test_photos_of_the_same_name(photos, landmark_run):
    other = photos / "more"
    other.mkdir()
    shutil.copy(photos / "00001.png", other / "00000.png")
    given = (photos / "00000.png", other)
    result = call("predict_landmarks.py", landmark_run, *given, "--whole-image", "--output", "out")
    assert result.code == 0, result.error
    expected = {"00000.png", "00000-2.png", "landmarks.csv", ".predict_landmarks.made"}
    assert {path.name for path in Path("out").iterdir()} == expected


def test_unreadable_photos_are_left_out_and_listed(photos, landmark_run):
    (photos / "00001.png").write_bytes(b"broken")
    (photos / "empty.jpg").touch()
    result = call("predict_landmarks.py", landmark_run, photos, "--whole-image", "--output", "out")
    assert result.code == 0
    assert "3 faces in 3 photos (2 left out)" in result.lines[0]
    assert any("empty.jpg: empty file" in line for line in result.lines)
    assert any(line.startswith("left out: ") and "00001.png" in line for line in result.lines)


def test_photos_and_other_files_are_never_overwritten(photos, landmark_run):
    shutil.copy(photos / "00000.png", "mine.png")
    (photos / "landmarks.csv").write_text("made by hand")
    Path("out").mkdir()
    Path("out/landmarks.csv").write_text("file,left,top,right,bottom\n00000.png,1,2,30,40\n")
    before = {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()}
    for arguments, message in (
        ((photos, "--whole-image", "--output", photos), "contains the photos"),
        (("mine.png", "--whole-image", "--output", "."), "contains the photo mine.png"),
        (
            (photos, "--boxes", "out/landmarks.csv", "--output", "out"),
            "out contains files that predict_landmarks.py did",
        ),
        ((photos, "--whole-image", "--output", "out"), "out contains files that predict_landmarks.py did"),
    ):
        result = call("predict_landmarks.py", landmark_run, *arguments)
        assert result.code == 2
        assert message in result.error.splitlines()[-1]
    assert {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()} == before


def test_benchmark_reports_faces_per_second(photos, landmark_run, monkeypatch):
    ran = []

    def run(script: Path, *words: object, folder: Path, threads: int) -> Cost:
        ran.append([word for word in words if isinstance(word, Path) and word.suffix == ".png"])
        return Cost(seconds=2.0, cpu_seconds=2.0, memory=1.0)

    monkeypatch.setattr("benchmarks.measuring.call_in_subprocess", lambda task, *words: (task(*words), None))
    monkeypatch.setattr("benchmarks.measuring.run_python", run)
    arguments = ("--count", 3, "--together", 2, "--times", 2, "--json")
    result = call("benchmarks/landmark_speed.py", landmark_run, photos, *arguments)
    assert result.code == 0, result.error
    *alone, three, one = json.loads("\n".join(result.lines))
    assert [len(files) for files in ran] == [3, 1, 3, 1]
    assert (three["faces/s"]["median"], one["faces/s"]["median"], one["faces/s"]["count"]) == (1.5, 0.5, 2)
    assert [row["what"] for row in alone] == [
        f"alone, {together} at a time, looks: {looks}" for together in (1, 2) for looks in (1, 2)
    ]
    assert all(row["faces/s"]["min"] > 0 for row in alone)


def test_errors_are_one_line(photos, landmark_run, tiny_run):
    bad = photos / "bad.png"
    bad.write_bytes(b"broken")
    (photos / "empty").mkdir()
    boxes = photos / "boxes.csv"
    boxes.write_text("file,left,top,right,bottom\n00000.png,1,2,30\n")
    wrong = photos / "wrong.csv"
    wrong.write_text("file,left,top,right,bottom\n00000.png,1,2,30,40\n\n00000.png,30,2,nan,40\n")
    header = photos / "header.csv"
    header.write_text("file;left;top;right;bottom\n")
    others = photos / "others.csv"
    others.write_text("file,left,top,right,bottom\nboxes.csv,1,2,30,40\n")
    gone = photos / "gone.csv"
    gone.write_text("file,left,top,right,bottom\n00000.png,1,2,30,40\n\nме.jpg,1,2,30,40\n")
    long = photos / "long.csv"
    long.write_text(f"file,left,top,right,bottom\n{'ж' * 200}.jpg,1,2,30,40\n")
    for arguments, message in [
        (
            (landmark_run, photos, "--boxes", header),
            "header.csv, header: no column file; the columns are file, left",
        ),
        ((landmark_run, photos, "--boxes", others), "others.csv names none of the photos, such as 00000.png"),
        ((landmark_run, photos, "--boxes", gone), "gone.csv, row 4: there is no file 'ме.jpg'"),
        ((landmark_run, photos, "--boxes", long), "long.csv, row 2: there is no file 'ж"),
        ((landmark_run, bad, "--whole-image"), "no photo can be read; the first is"),
        ((landmark_run, photos / "nowhere.jpg"), "no photo or folder"),
        ((landmark_run, photos / "empty"), "no photo in"),
        ((landmark_run,), "no photo is given"),
        (
            (landmark_run, photos, "--whole-image", "--output", "x" * 300),
            "cannot be written to: File name too long",
        ),
        (("x" * 300, photos, "--whole-image"), "is not a run"),
        ((landmark_run, photos, "--looks", 0), "--looks must be 1 or more"),
        ((landmark_run, photos, "--boxes", boxes), "boxes.csv, row 2: no column bottom"),
        ((landmark_run, photos, "--boxes", wrong), "wrong.csv, row 4: not a box"),
        ((landmark_run, photos, "--boxes", "none.csv"), "none.csv cannot be read"),
        ((landmark_run, photos, "--boxes", boxes, "--whole-image"), "exclude each other"),
        ((landmark_run, photos, "--detector", "none.onnx"), "none.onnx"),
        (("7", photos), "7 is not a run"),
        ((checkpoints(tiny_run)[-1], photos), "contains no network of landmarks"),
        ((tiny_run, photos), "contains no network of landmarks"),
    ]:
        result = call("predict_landmarks.py", *arguments)
        assert result.code == 2, arguments
        last = result.error.splitlines()[-1]
        assert last.startswith("error: "), arguments
        assert message in last, (arguments, last)
