"""prepare_faces.py on photos of drawn faces: crops, manifest and contact sheets."""

import json
import os

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from engine.errors import UserError
from engine.png import load_png, to_pillow
from faces.align import crop_aligned, square_around_points
from faces.landmarks.point_set import load_point_set
from faces.pose import pose_from_landmarks
from faces.preparation import PrepareArguments, cropper, prepare
from faces.preparation.sources import Job, crop_name
from faces.preparation.state import RENAMED
from images.scan import list_images
from tests.faces.detection.tiny_yunet import POINTS, save_tiny_yunet
from tests.faces.photos import photo, save_photo
from tests.faces.preparation.helpers import (
    SOURCES,
    FarPredictor,
    output_files,
    prepare_here,
    read_manifest,
    replace_predictor,
    save_photos,
    save_video,
    verdicts,
)
from tests.in_process import call

pytest.importorskip("cv2", reason="needs the extra 'photos'")


def test_crop_names_and_format(prepared):
    _, out = prepared
    crops = list_images(out / "faces").files
    assert crops == sorted(f"{name}-0.jpg" for name in SOURCES)
    for name in crops:
        with Image.open(out / "faces" / name) as crop:
            assert (crop.format, crop.size, crop.mode) == ("JPEG", (112, 112), "RGB")
            assert crop.quantization[0][:6] == [2, 1, 1, 2, 2, 4]  # quality 95


def test_manifest_lists_every_file(prepared):
    _, out = prepared
    rows = {row["source"]: row for row in read_manifest(out)}
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


def test_printed_summary(prepared):
    output, out = prepared
    assert output.lines[0] == f"6 faces, 6 of them kept in {out / 'faces'}"
    assert "1 photo without a face" in output.lines
    assert "left out or not read completely: 2 files or folders" in output.lines
    assert any("broken.jpg: " in line for line in output.lines)


def test_training_on_the_output_folder_names_its_folder_of_crops(prepared, tmp_path, monkeypatch):
    _, out = prepared
    monkeypatch.chdir(tmp_path)
    ended = call("train_gan.py", out, "--device", "cpu")
    assert ended.code == 2
    assert ended.error == f"error: {out} also contains what prepare_faces.py left out; give {out / 'faces'}\n"


def test_camera_raw_is_left_out(tmp_path):
    folder = save_photos(tmp_path, photo(1)[0])
    to_pillow(photo(1, side=60)[0]).save(folder / "camera.dng", "TIFF")
    summary = prepare_here(folder, tmp_path / "out")
    assert summary.unreadable == {"camera.dng": "camera raw: export it as JPEG"}
    assert verdicts(tmp_path / "out") == {"kept": 1, "unreadable": 1}


def test_workers_give_the_same_output(prepared, photos, tmp_path):
    summary = prepare(PrepareArguments(photos, tmp_path / "out", workers=2))
    assert summary.exit_code == 0
    assert output_files(tmp_path / "out") == output_files(prepared[1])


def test_rejection_reasons_in_manifest_summary_and_sheet(tmp_path):
    whole, _ = photo(1)
    points = photo(1)[1]
    edge = round(points[:, 0].min()) - 2
    blurred = to_pillow(photo(3)[0]).filter(ImageFilter.GaussianBlur(3.5))
    folder = save_photos(
        tmp_path,
        whole,
        photo(5, side=50)[0],
        np.ascontiguousarray(whole[:, :, edge:]),
        np.array(blurred).transpose(2, 0, 1),
        whole,
    )
    summary = prepare_here(folder, tmp_path / "out", enlarge=2.0, min_side=90)
    assert [row["verdict"] for row in read_manifest(tmp_path / "out")] == [
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
    left_out = [row["file"] for row in read_manifest(tmp_path / "out") if row["file"][0] == "l"]
    for index, file in enumerate(left_out):
        tile = sheet[:, :112, 114 * index : 114 * index + 112]
        np.testing.assert_array_equal(tile, load_png(tmp_path / "out" / file))
        assert (sheet[:, 112:, 114 * index : 114 * index + 112] < 128).any()  # number and reason
    assert (sheet[:, :, 114 * 4 :] == 255).all()


def test_near_duplicates_are_per_folder_and_optional(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        save_photo(tmp_path / "in" / name, 1)
    prepare_here(tmp_path / "in", tmp_path / "out")
    rows = {row["source"]: row["verdict"] for row in read_manifest(tmp_path / "out")}
    assert rows == {"a/1.png": "kept", "a/2.png": "near-copy", "b/1.png": "kept"}
    prepare_here(tmp_path / "in", tmp_path / "all", near_copy=-1)
    assert verdicts(tmp_path / "all") == {"kept": 3}


def test_largest_of_near_duplicates_is_kept(tmp_path):
    folder = save_photos(tmp_path, photo(1)[0], photo(3)[0])
    out = tmp_path / "out"
    prepare_here(folder, out)
    to_pillow(photo(1)[0]).resize((440, 360)).save(folder / "large.png")
    prepare_here(folder, out)
    rows = {row["source"]: row for row in read_manifest(out)}
    assert {name: (row["verdict"], row["file"]) for name, row in rows.items()} == {
        "0.png": ("near-copy", "left_out/0.png-0.jpg"),
        "1.png": ("kept", "faces/1.png-0.jpg"),
        "large.png": ("kept", "faces/large.png-0.jpg"),
    }
    assert all((out / row["file"]).is_file() for row in rows.values())
    assert len(list_images(out / "faces").files) == 2


def test_near_duplicates_of_a_deleted_crop_stay_out(tmp_path):
    folder = save_photos(tmp_path, photo(1)[0])
    prepare_here(folder, tmp_path / "out")
    (tmp_path / "out" / "faces" / "0.png-0.jpg").unlink()
    to_pillow(photo(1)[0]).resize((440, 360)).save(folder / "large.png")
    prepare_here(folder, tmp_path / "out")
    assert list_images(tmp_path / "out" / "faces").files == []


def test_form_size_and_enlarge(tmp_path):
    folder = save_photos(tmp_path, photo(1)[0])
    prepare_here(folder, tmp_path / "out", form="png", size=64, enlarge=1.5)
    (row,) = read_manifest(tmp_path / "out")
    assert row["file"] == "faces/0.png-0.png"
    with Image.open(tmp_path / "out" / row["file"]) as crop:
        assert (crop.format, crop.size) == ("PNG", (64, 64))
    assert float(row["side"]) == pytest.approx(1.5 * (float(row["right"]) - float(row["left"])), abs=0.3)


def test_upright_rotates_a_tilted_face(tmp_path):
    folder = save_photos(tmp_path, photo(3, tilt=20)[0])
    for upright in (True, False):
        prepare_here(folder, tmp_path / f"{upright}", upright=upright, form="png")
    straight = save_photos(tmp_path / "True", photo(3)[0])
    prepare_here(straight, tmp_path / "straight", upright=False, form="png")
    crops = {
        name: load_png(tmp_path / name / "faces" / "0.png-0.png").astype(int)
        for name in ("True", "False", "straight")
    }
    off = {name: np.abs(crops[name] - crops["straight"]).mean() for name in ("True", "False")}
    assert off["True"] < 0.7 * off["False"]
    assert float(read_manifest(tmp_path / "True")[0]["roll"]) == pytest.approx(20, abs=8)


class DrawnPredictor:
    """Returns the true landmarks of drawn face 3, tilted by 12 degrees."""

    point_set = load_point_set("drawn-29")

    def points(self, image, boxes):
        return np.stack([photo(3, tilt=12)[1]] * len(boxes)).astype(np.float32)


def test_landmarks_frame_and_align_the_face(tmp_path, monkeypatch):
    folder = save_photos(tmp_path, photo(3, tilt=12)[0])
    (tmp_path / "network.pt").touch()
    loaded = replace_predictor(monkeypatch, DrawnPredictor())
    prepare_here(folder, tmp_path / "out", landmarks=tmp_path / "network.pt", form="png")
    assert loaded == [tmp_path / "network.pt"]
    (row,) = read_manifest(tmp_path / "out")
    points = np.array(row["landmarks"].split(), float).reshape(-1, 2)
    np.testing.assert_allclose(points, photo(3, tilt=12)[1], atol=0.06)
    crop = load_png(tmp_path / "out" / row["file"]).astype(int)
    upright, straight = photo(3)
    roll = pose_from_landmarks(straight, load_point_set("drawn-29")).roll
    assert float(row["roll"]) == pytest.approx(roll + 12, abs=0.1)
    assert np.abs(crop - crop_aligned(upright, square_around_points(straight, roll, 1.2), 112)).mean() < 4


def test_landmarks_elsewhere_than_the_face_are_ignored(tmp_path, monkeypatch):
    folder = save_photos(tmp_path, photo(3, tilt=12)[0])
    replace_predictor(monkeypatch, FarPredictor())
    prepare_here(folder, tmp_path / "far", landmarks=tmp_path / "far.pt")
    prepare_here(folder, tmp_path / "none")
    assert read_manifest(tmp_path / "far") == read_manifest(tmp_path / "none")


def test_manifest_contains_the_keypoints_of_a_yunet(tmp_path):
    pytest.importorskip("onnx", reason="needs onnx to make a small network")
    save_tiny_yunet(tmp_path / "tiny.onnx")
    image = np.zeros((3, 120, 160), np.uint8)
    image[0, 56:64, 72:80] = 255  # a face for this network, centred at 76, 60
    prepare_here(save_photos(tmp_path, image), tmp_path / "out", detector=tmp_path / "tiny.onnx")
    (row,) = read_manifest(tmp_path / "out")
    points = np.array(row["landmarks"].split(), float).reshape(5, 2)
    np.testing.assert_allclose(points, np.add(POINTS, (76, 60)), atol=0.15)
    (left, right, nose, *mouth), between = points, points[1] - points[0]
    beside = (np.mean([nose, np.mean(mouth, 0)], 0) - (left + right) / 2) @ between / (between @ between)
    assert float(row["roll"]) == pytest.approx(np.degrees(np.arctan2(between[1], between[0])), abs=0.5)
    assert float(row["turn"]) == pytest.approx(beside, abs=0.01)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_is_applied(tmp_path, orientation):
    image, points = photo(1)
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (tmp_path / "in").mkdir()
    to_pillow(image).transpose(turns[orientation]).save(tmp_path / "in" / "a.png", exif=exif)
    prepare_here(tmp_path / "in", tmp_path / "out")
    (row,) = read_manifest(tmp_path / "out")
    assert row["verdict"] == "kept"
    assert float(row["left"]) == pytest.approx(points[:, 0].min(), abs=20)
    assert float(row["top"]) == pytest.approx(points[:, 1].min(), abs=20)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_photo_on_its_side_without_exif_is_rotated(tmp_path, rotation):
    upright = photo(1)[0]
    stored = np.rot90(upright, rotation // 90, (1, 2))  # counterclockwise
    summary = prepare_here(save_photos(tmp_path, upright, stored), tmp_path / "out", near_copy=-1, form="png")
    straight, turned = read_manifest(tmp_path / "out")
    assert (straight["note"], turned["note"]) == ("", f"rotated {rotation} degrees clockwise")
    assert {name: turned[name] for name in ("left", "top", "verdict", "hash")} == {
        name: straight[name] for name in ("left", "top", "verdict", "hash")
    }
    np.testing.assert_array_equal(*(load_png(tmp_path / "out" / row["file"]) for row in (straight, turned)))
    assert "1 photo rotated to find a face; the manifest's notes give the angles" in summary.lines()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_image_modes(tmp_path, mode):
    image = to_pillow(photo(1)[0])
    (tmp_path / "in").mkdir()
    if mode == "I;16":
        converted = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        converted = image.convert(mode)
    converted.save(tmp_path / "in" / ("a.tif" if mode == "CMYK" else "a.png"))
    prepare_here(tmp_path / "in", tmp_path / "out")
    assert verdicts(tmp_path / "out") == {"kept": 1}


def test_video_frames_are_sampled_and_numbered(video, tmp_path):
    summary = prepare_here(video, tmp_path / "out", fps=2.5, near_copy=-1)
    assert summary.unreadable == {"broken.mp4": "not a readable video"}
    assert list_images(tmp_path / "out" / "faces").files == [
        f"my film.avi-{frame:06d}-0.jpg" for frame in range(0, 20, 2)
    ]
    prepare_here(video, tmp_path / "few")
    assert verdicts(tmp_path / "few") == {"kept": 2, "near-copy": 2, "unreadable": 1}


def test_damaged_video_counts_as_one_unreadable_file(video, tmp_path, monkeypatch):
    monkeypatch.setattr("faces.preparation.sources.FRAMES_PER_JOB", 4)
    (video / "broken.mp4").unlink()
    film = video / "my film.avi"
    save_video(film, [photo(1)[0]] * 65)
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 3])
    summary = prepare_here(video, tmp_path / "out")
    # Of the four segments of 20 frames (the last of 5), the first is complete. The second ends early, but by
    # no more than the tolerance for a wrong length in the file.
    assert [(row["part"], row["verdict"]) for row in read_manifest(tmp_path / "out")][-2:] == [
        ("2", "unreadable"),
        ("3", "unreadable"),
    ]
    ((name, reason),) = summary.unreadable.items()
    assert (name, reason) == ("my film.avi", "damaged: it ends before frame 40 of 60 or more")
    assert summary.lines()[-4:-1] == [
        "0 photos without a face",
        "left out or not read completely: 1 file or folder",
        f"  my film.avi: {reason}",
    ]


def test_video_without_a_face_counts_once(tmp_path, monkeypatch):
    monkeypatch.setattr("faces.preparation.sources.FRAMES_PER_JOB", 2)
    save_video(tmp_path / "in" / "a.avi", [np.full((3, 50, 60), 255, np.uint8)] * 25)
    summary = prepare_here(tmp_path / "in", tmp_path / "out")
    assert verdicts(tmp_path / "out") == {"no face": 3}
    assert "1 photo without a face" in summary.lines()


@pytest.mark.parametrize("error", ["memory", "opencv"])
def test_failed_detection_is_recorded_as_unreadable(tmp_path, monkeypatch, error):
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'photos'")
    folder = save_photos(tmp_path, photo(1)[0], photo(3)[0])
    pose = cropper.Cropper._pose

    def fail_once(*_):
        monkeypatch.setattr(cropper.Cropper, "_pose", pose)
        raise MemoryError if error == "memory" else cv2.error("(-4) Failed to\nallocate")

    monkeypatch.setattr(cropper.Cropper, "_pose", fail_once)
    summary = prepare_here(folder, tmp_path / "out")
    reason = {
        "memory": "not enough memory for face detection",
        "opencv": "OpenCV fails: (-4) Failed to allocate",
    }[error]
    assert summary.unreadable == {"0.png": reason}
    assert [(row["source"], row["verdict"], row["note"]) for row in read_manifest(tmp_path / "out")] == [
        ("0.png", "unreadable", reason),
        ("1.png", "kept", ""),
    ]


def test_other_exceptions_propagate(tmp_path, monkeypatch):
    monkeypatch.setattr(cropper.Cropper, "_pose", lambda *_: {}["bug"])
    with pytest.raises(KeyError):
        prepare_here(save_photos(tmp_path, photo(1)[0]), tmp_path / "out")


def test_crop_name():
    assert crop_name(Job("a/me.png"), None, 0, ".jpg") == "a/me.png-0.jpg"
    assert crop_name(Job("me.mp4"), 125, 1, ".png") == "me.mp4-000125-1.png"
    like_a_frame = crop_name(Job("me.MP4-000125"), None, 1, ".png")
    assert like_a_frame.startswith("me.MP4-000125~")
    assert crop_name(Job("me.mp4-25"), None, 1, ".png") == "me.mp4-25-1.png"
    long = [crop_name(Job("a/" + "é" * 120 + end), 125, 1, ".jpg") for end in ("1.png", "2.png")]
    assert long[0] != long[1]
    assert all(len(os.fsencode(name.rpartition("/")[2])) < 255 for name in long)


def test_prepare_json_contains_the_rules(prepared):
    state = json.loads((prepared[1] / "prepare.json").read_text(encoding="utf-8"))
    assert state["finished"] is True
    assert state["rules"]["size"] == 112
    assert state["rules"]["min_side"] == 56
    assert "workers" not in state["rules"]


def test_a_folder_of_a_version_with_other_names_of_rules_is_resumed(tmp_path):
    folder, out = save_photos(tmp_path, photo(1)[0]), tmp_path / "out"
    prepare_here(folder, out)
    state = json.loads((out / "prepare.json").read_text(encoding="utf-8"))
    earlier = {name: before for before, name in RENAMED.items()}
    state["rules"] = {earlier.get(name, name): value for name, value in state["rules"].items()}
    (out / "prepare.json").write_text(json.dumps(state), encoding="utf-8")
    assert prepare_here(folder, out).new == 0
    with pytest.raises(UserError, match=r"was started with --max-turn 0.35, not --max-turn 0.2"):
        prepare_here(folder, out, max_turn=0.2)
