import builtins
import sys

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from engine.png import from_pillow, to_pillow
from faces.align import iou
from faces.detection import opencv
from faces.detection.cascades import CascadeDetector, CascadePose
from faces.detection.load import load_detector
from faces.drawn import Face, Moment, Person, draw_face
from tests.faces.photos import photo

pytest.importorskip("cv2", reason="needs the extra 'photos'")


def around(points):
    return (*points.min(0), *points.max(0))


def test_drawn_faces_are_found_around_their_landmarks_and_nothing_else_is():
    detect = load_detector()
    overlaps = []
    for number in range(8):
        image, points = photo(number)
        (face,) = detect(image)
        overlaps.append(float(iou(face.box, around(points))))
    assert min(overlaps) > 0.4
    assert np.mean(overlaps) > 0.6


def test_two_faces_come_surest_first():
    one, points = photo(3)
    other, more = photo(1)
    both = np.concatenate([one, other], axis=2)
    faces = CascadeDetector()(both)
    assert len(faces) == 2
    assert faces[0].score >= faces[1].score
    found = sorted(face.box for face in faces)
    for box, truth in zip(found, (points, more + np.array([one.shape[2], 0])), strict=True):
        assert iou(box, around(truth)) > 0.4


def test_no_face_is_found_where_there_is_none():
    assert CascadeDetector()(np.full((3, 100, 120), 90, np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (30, 2000), (25, 23)])
def test_odd_shapes_are_searched(shape):
    assert (
        CascadeDetector(search_side=64)(np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8))
        == []
    )


def test_a_large_photo_is_searched_reduced_and_answered_in_its_own_pixels():
    image, points = photo(1, side=480, width=880, height=720)
    (face,) = CascadeDetector(search_side=220)(image)
    assert iou(face.box, around(points)) > 0.4


def test_bounds_of_score_and_size_are_kept():
    image, _ = photo(1)
    (face,) = CascadeDetector()(image)
    assert CascadeDetector(least_score=face.score + 1)(image) == []
    assert CascadeDetector(least_score=face.score)(image) == [face]
    assert CascadeDetector()(image, smallest=2 * (face.box[2] - face.box[0])) == []


@pytest.mark.parametrize("tilt", [-20, 20])
def test_the_roll_of_a_tilted_face_is_found(tilt):
    errors = []
    for number in (1, 3, 5, 8):
        image, points = photo(number, tilt=tilt)
        roll = CascadePose()(image, around(points)).roll
        upright, straight = photo(number)
        errors.append(roll - tilt - CascadePose()(upright, around(straight)).roll)
    assert np.abs(errors).mean() < 6


def test_a_roll_below_the_estimates_error_is_none():
    image, points = draw_face(Face(Person(number=3), Moment(light_strength=0.0)), 160)
    assert CascadePose()(from_pillow(Image.fromarray(image)), around(points * 160)).roll == 0


def test_the_turn_has_the_sign_of_the_way_the_face_looks():
    turns = []
    for turn in (-1.0, 1.0):
        image, points = draw_face(Face(Person(number=3), Moment(turn=turn)), 160)
        turns.append(CascadePose()(from_pillow(Image.fromarray(image)), around(points * 160)).turn)
    assert turns[0] < turns[1]


def test_a_place_without_a_face_has_no_tilt():
    flat = np.full((3, 80, 80), 90, np.uint8)
    pose = CascadePose()(flat, (20, 20, 60, 60))
    assert (pose.roll, pose.turn) == (0.0, None)


def test_a_mirrored_face_looks_the_other_way():
    image, points = draw_face(Face(Person(number=3), Moment(turn=0.8, tilt=0.9)), 160)
    picture = Image.fromarray(image)
    pose = CascadePose()(from_pillow(picture), around(points * 160))
    flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mirrored = np.stack([160 - points[:, 0] * 160, points[:, 1] * 160], axis=1)
    other = CascadePose()(from_pillow(flipped), around(mirrored))
    assert other.roll == pytest.approx(-pose.roll, abs=4)
    assert other.turn == pytest.approx(-pose.turn, abs=0.2)


@pytest.fixture
def afresh():
    """What was found out about OpenCV is forgotten before and after."""
    for function in (opencv.opencv, opencv.cascade):
        function.cache_clear()
    yield
    for function in (opencv.opencv, opencv.cascade):
        function.cache_clear()


def test_without_the_extra_one_line_tells_how_to_get_it(afresh, monkeypatch):
    imported = builtins.__import__

    def refuse(name, *rest):
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return imported(name, *rest)

    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"the extra 'photos': pip install -e '\.\[photos\]'"):
        load_detector()


def test_an_opencv_without_cascades_is_told_of(afresh, monkeypatch, tmp_path):
    import cv2

    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path))
    with pytest.raises(UserError, match="without the cascade haarcascade_frontalface_alt2"):
        load_detector()
    monkeypatch.delattr(cv2, "CascadeClassifier")  # as from OpenCV 5 on
    with pytest.raises(UserError, match="without the cascade haarcascade_frontalface_alt2"):
        load_detector()


def test_colours_are_rgb_and_planes_come_first():
    image, _ = photo(1)
    box = CascadeDetector()(image)[0].box
    grey = to_pillow(image).convert("L").convert("RGB")
    assert iou(CascadeDetector()(from_pillow(grey))[0].box, box) > 0.9
