import builtins
import sys

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from engine.png import from_pillow, to_pillow
from faces.align import iou
from faces.detection import load_detector, opencv
from faces.detection.cascades import CascadeDetector, CascadePose
from faces.drawn import Face, Person, Scene, draw_face
from tests.faces.photos import photo

pytest.importorskip("cv2", reason="needs the extra 'photos'")


def box_around(points):
    return (*points.min(0), *points.max(0))


def test_drawn_faces_are_detected_around_their_landmarks():
    detect = load_detector()
    overlaps = []
    for number in range(8):
        image, points = photo(number)
        (face,) = detect(image)
        overlaps.append(float(iou(face.box, box_around(points))))
    assert min(overlaps) > 0.4
    assert np.mean(overlaps) > 0.6


def test_detections_are_sorted_by_score():
    left, left_points = photo(3)
    right, right_points = photo(1)
    image = np.concatenate([left, right], axis=2)
    faces = CascadeDetector()(image)
    assert len(faces) == 2
    assert faces[0].score >= faces[1].score
    boxes = sorted(face.box for face in faces)
    for box, points in zip(boxes, (left_points, right_points + np.array([left.shape[2], 0])), strict=True):
        assert iou(box, box_around(points)) > 0.4


def test_no_detection_without_a_face():
    assert CascadeDetector()(np.full((3, 100, 120), 90, np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (30, 2000), (25, 23)])
def test_extreme_image_shapes(shape):
    assert (
        CascadeDetector(search_side=64)(np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8))
        == []
    )


def test_boxes_of_a_reduced_photo_are_in_its_own_pixels():
    image, points = photo(1, side=480, width=880, height=720)
    (face,) = CascadeDetector(search_side=220)(image)
    assert iou(face.box, box_around(points)) > 0.4


def test_min_score_and_min_width():
    image, _ = photo(1)
    (face,) = CascadeDetector()(image)
    assert CascadeDetector(min_score=face.score + 1)(image) == []
    assert CascadeDetector(min_score=face.score)(image) == [face]
    assert CascadeDetector()(image, min_width=2 * (face.box[2] - face.box[0])) == []


@pytest.mark.parametrize("tilt", [-20, 20])
def test_roll_of_a_tilted_face(tilt):
    errors = []
    for number in (1, 3, 5, 8):
        image, points = photo(number, tilt=tilt)
        roll = CascadePose()(image, box_around(points)).roll
        upright, straight = photo(number)
        errors.append(roll - tilt - CascadePose()(upright, box_around(straight)).roll)
    assert np.abs(errors).mean() < 6


def test_small_roll_is_zero():
    image, points = draw_face(Face(Person(number=3), Scene(light_strength=0.0)), 160)
    assert CascadePose()(from_pillow(Image.fromarray(image)), box_around(points * 160)).roll == 0


def test_sign_of_turn():
    turns = []
    for turn in (-1.0, 1.0):
        image, points = draw_face(Face(Person(number=3), Scene(turn=turn)), 160)
        turns.append(CascadePose()(from_pillow(Image.fromarray(image)), box_around(points * 160)).turn)
    assert turns[0] < turns[1]


def test_pose_without_a_face():
    flat = np.full((3, 80, 80), 90, np.uint8)
    pose = CascadePose()(flat, (20, 20, 60, 60))
    assert (pose.roll, pose.turn) == (0.0, None)


def test_pose_of_a_mirrored_face():
    image, points = draw_face(Face(Person(number=3), Scene(turn=0.8, tilt=0.9)), 160)
    picture = Image.fromarray(image)
    pose = CascadePose()(from_pillow(picture), box_around(points * 160))
    flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mirrored = np.stack([160 - points[:, 0] * 160, points[:, 1] * 160], axis=1)
    mirrored_pose = CascadePose()(from_pillow(flipped), box_around(mirrored))
    assert mirrored_pose.roll == pytest.approx(-pose.roll, abs=4)
    assert mirrored_pose.turn == pytest.approx(-pose.turn, abs=0.2)


@pytest.fixture
def cleared_caches():
    """Clear the caches of OpenCV and its cascades before and after."""
    for function in (opencv.load_opencv, opencv.load_cascade):
        function.cache_clear()
    yield
    for function in (opencv.load_opencv, opencv.load_cascade):
        function.cache_clear()


def test_missing_extra_is_one_line(cleared_caches, monkeypatch):
    imported = builtins.__import__

    def refuse(name, *rest):
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return imported(name, *rest)

    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"the extra 'photos': pip install -e '\.\[photos\]'"):
        load_detector()


def test_opencv_without_cascades(cleared_caches, monkeypatch, tmp_path):
    import cv2

    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path))
    with pytest.raises(UserError, match="has no cascade haarcascade_frontalface_alt2"):
        load_detector()
    monkeypatch.delattr(cv2, "CascadeClassifier")  # as from OpenCV 5 on
    with pytest.raises(UserError, match="has no cascade haarcascade_frontalface_alt2"):
        load_detector()


def test_grayscale_and_colour_give_the_same_box():
    image, _ = photo(1)
    box = CascadeDetector()(image)[0].box
    grey = to_pillow(image).convert("L").convert("RGB")
    assert iou(CascadeDetector()(from_pillow(grey))[0].box, box) > 0.9
