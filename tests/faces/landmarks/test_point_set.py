"""Built-in and custom point sets."""

import json

import numpy as np
import pytest

from engine.errors import UserError
from faces.drawn import LANDMARKS, draw_face, sample_face
from faces.landmarks.point_set import BUILT_IN, built_in_point_set, from_json, load_point_set

VALID = {
    "points": ["a", "b", "c"],
    "pairs": [["a", "b"]],
    "areas": {"eyes": ["a", "b"]},
    "eyes": {"left": ["a"], "right": ["b"]},
    "scale": ["a", "b"],
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_sets_are_complete(name):
    points = load_point_set(name)
    assert points.count == int(name.rpartition("-")[2])
    assert built_in_point_set(points.count) == points
    assert (points.mirror[points.mirror] == np.arange(points.count)).all()
    covered = sorted(number for names in points.areas.values() for number in points.indices(names))
    assert covered == list(range(points.count))
    for pair in points.pairs:
        assert any("left" in name for name in pair) == any("right" in name for name in pair)
    assert from_json(name, json.loads(json.dumps(points.to_json()))) == points


def test_mirror_of_faces_68():
    mirror = load_point_set("faces-68").mirror
    for left, right in {0: 16, 8: 8, 17: 26, 27: 27, 31: 35, 36: 45, 41: 46, 48: 54, 60: 64}.items():
        assert mirror[left] == right
        assert mirror[right] == left
    # The chin, the bridge, under the nose, the middle of the lips.
    assert (mirror == np.arange(68)).sum() == 1 + 4 + 1 + 4


def test_mirror_of_cats_9_keeps_outer_points_outer():
    # The first annotation of the Cat data set: eyes, mouth, then the ears from the left to the right.
    cat = np.array([175, 160, 239, 162, 199, 199, 149, 121, 137, 78, 166, 93, 281, 101, 312, 96, 296, 133])
    cat = cat.reshape(9, 2)
    points = load_point_set("cats-9")
    mirrored = (np.array([400, 0]) + np.array([-1, 1]) * cat)[points.mirror]
    left = [name for name in points.points if "left" in name]
    right = [name.replace("left", "right") for name in left]
    for face in (cat, mirrored):
        assert (face[points.indices(left), 0] < face[points.indices(right), 0]).all()
    tips = points.indices(["ear_left_tip", "ear_right_tip"])
    outer = points.indices(["ear_left_outer", "ear_right_outer"])
    inner = points.indices(["ear_left_inner", "ear_right_inner"])
    for face in (cat, mirrored):
        assert (face[tips, 1] < face[outer, 1]).all()
        spread = [abs(face[part, 0] - face[:2, 0].mean()) for part in (outer, inner)]
        assert (spread[0] > spread[1]).all()


def test_eye_centres_of_a_drawn_face():
    _, landmarks = draw_face(sample_face(seed=0, index=3), 64)
    points = load_point_set("drawn-29")
    assert points.points == LANDMARKS
    left, right = points.eye_centres(landmarks)
    assert np.linalg.norm(left - landmarks[LANDMARKS.index("pupil_left")]) < 0.02
    assert np.linalg.norm(right - landmarks[LANDMARKS.index("pupil_right")]) < 0.02
    assert left[0] < right[0]
    assert points.eye_centres(np.stack([landmarks] * 2)).shape == (2, 2, 2)


def test_custom_set(tmp_path):
    path = tmp_path / "mes points.json"
    path.write_text(json.dumps(VALID), encoding="utf-8")
    points = load_point_set(path)
    assert (points.name, points.points, list(points.mirror)) == ("mes points", ("a", "b", "c"), [1, 0, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": []}, "has no points|not among"),
        ({"points": ["a", "b", "a"]}, "same name"),
        ({"pairs": [["a", "z"]]}, "z is not among"),
        ({"pairs": [["a", "b"], ["b", "c"]]}, "two pairs"),
        ({"pairs": [["a", "b", "c"]]}, "docs/landmarks.md"),
        ({"areas": {"eyes": []}}, "no points"),
        ({"areas": {"eyes": "ab"}}, "not a list of names"),
        ({"areas": ["a"]}, "docs/landmarks.md"),
        ({"scale": ["a", "a"]}, "twice"),
        ({"eyes": {"left": ["a"]}}, "right"),
        ({"points": [1, 2, 3]}, "not a list of names"),
    ],
)
def test_invalid_set_is_one_line(tmp_path, change, message):
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(VALID | change), encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        load_point_set(path)
    assert "odd" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_set_and_invalid_json(tmp_path):
    with pytest.raises(UserError, match=r"no point set dogs.*faces-68"):
        load_point_set("dogs")
    (tmp_path / "text.json").write_text("eyes")
    with pytest.raises(UserError, match="is not JSON"):
        load_point_set(tmp_path / "text.json")
    with pytest.raises(UserError, match=r"6 landmarks.*--points"):
        built_in_point_set(6)
