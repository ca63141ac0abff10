"""The support of detections by other cascades, and what is done with those that have little."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from engine.png import to_pillow
from faces.detection import load_detector
from faces.detection.support import count_support
from faces.preparation.options import PrepareArguments
from faces.recognition.face_crops import detected_face_cropper
from tests.faces.photos import photo, save_photo
from tests.faces.preparation.helpers import crops, prepare_here, read_manifest, verdicts

pytest.importorskip("cv2", reason="needs the extra 'photos'")


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_face_has_much_support_and_a_plain_wall_none(number):
    image, _ = photo(number)
    (detection,) = load_detector()(image)
    support = count_support(image, detection.box, 0.0)
    assert support > PrepareArguments.min_support
    assert count_support(np.full_like(image, 120), detection.box, 0.0) == 0
    tilted, points = photo(number, tilt=25)
    box = (*points.min(0), *points.max(0))
    assert count_support(tilted, box, 25.0) > count_support(tilted, box, -25.0)


@pytest.fixture
def few_windows(monkeypatch):
    """Detections in photos with a dark corner have little support."""

    def count(image, box, roll):
        return 5 if image[:, 0, 0].max() < 10 else 100

    monkeypatch.setattr("faces.preparation.cropper.count_support", count)


def save_with_dark_corner(path, number):
    image = photo(number)[0].copy()
    image[:, :4, :4] = 0
    to_pillow(image).save(path)


def test_detections_with_little_support_are_left_out_and_can_be_restored(tmp_path, few_windows):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "1.png", 1)
    save_with_dark_corner(folder / "3.png", 3)
    summary = prepare_here(folder, out)
    assert summary.lines()[:2] == [f"2 faces, 1 of them kept in {out / 'faces'}", "  1 not a face"]
    rows = {row["source"]: row for row in read_manifest(out)}
    assert [rows[name]["support"] for name in ("1.png", "3.png")] == ["100", "5"]
    assert crops(out) == ["faces/1.png-0.jpg", "left_out/3.png-0.jpg"]
    prepare_here(folder, out, restore=(int(rows["3.png"]["number"]),))
    assert verdicts(out) == {"kept": 2}
    os.utime(folder / "3.png", (1e9, 1e9))  # makes its crop again
    prepare_here(folder, out)
    assert verdicts(out) == {"kept": 2}
    assert verdicts_with(folder, tmp_path / "all", min_support=0) == {"kept": 2}


def verdicts_with(folder, out, **arguments):
    prepare_here(folder, out, **arguments)
    return verdicts(out)


def test_a_folder_of_a_version_without_support_is_resumed(tmp_path, few_windows):
    folder, out = tmp_path / "in", tmp_path / "out"
    save_photo(folder / "1.png", 1)
    prepare_here(folder, out)
    state = json.loads((out / "prepare.json").read_text())
    del state["rules"]["min_support"], state["exclude"]
    (out / "prepare.json").write_text(json.dumps(state))
    save_with_dark_corner(folder / "3.png", 3)
    assert prepare_here(folder, out).new == 1
    assert verdicts(out) == {"kept": 1, "not a face": 1}


def test_recognition_ignores_detections_with_little_support(tmp_path, few_windows):
    save_photo(tmp_path / "1.png", 1)
    save_with_dark_corner(tmp_path / "3.png", 3)
    cropper = detected_face_cropper(64, None, 1.2)
    assert [len(cropper(tmp_path / name).boxes) for name in ("1.png", "3.png")] == [1, 0]
    Image.new("RGB", (200, 200), "white").save(tmp_path / "nobody.png")
    assert cropper(tmp_path / "nobody.png").crops.shape == (0, 3, 64, 64)
