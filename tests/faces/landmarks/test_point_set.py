"""The point sets that come with the project, and those of users."""

import json

import numpy as np
import pytest

from engine.errors import UserError
from faces.drawn import AREAS, LANDMARKS, MIRROR, draw_face, sample_face
from faces.landmarks.point_set import SHIPPED, from_json, point_set, point_set_of

GOOD = {
    "points": ["a", "b", "c"],
    "pairs": [["a", "b"]],
    "areas": {"eyes": ["a", "b"]},
    "eyes": {"left": ["a"], "right": ["b"]},
    "scale": ["a", "b"],
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sets_are_whole(name):
    points = point_set(name)
    assert points.count == int(name.rpartition("-")[2])
    assert point_set_of(points.count) == points
    assert (points.mirror[points.mirror] == np.arange(points.count)).all()
    covered = sorted(number for names in points.areas.values() for number in points.numbers(names))
    assert covered == list(range(points.count))
    for pair in points.pairs:
        assert any("left" in one for one in pair) == any("right" in one for one in pair)
    assert from_json(name, json.loads(json.dumps(points.to_json()))) == points


def test_the_drawn_faces_set_is_what_draws_them():
    points = point_set("drawn-29")
    assert points.points == LANDMARKS
    assert tuple(points.mirror) == MIRROR
    assert {name: tuple(points.numbers(part)) for name, part in points.areas.items()} == AREAS


def test_the_68_points_mirror_as_ibug_numbers_them():
    mirror = point_set("faces-68").mirror
    for one, other in [(0, 16), (8, 8), (17, 26), (27, 27), (31, 35), (36, 45), (41, 46), (48, 54), (60, 64)]:
        assert mirror[one] == other
        assert mirror[other] == one
    # The chin, the bridge, under the nose, the middle of the lips.
    assert (mirror == np.arange(68)).sum() == 1 + 4 + 1 + 4


def test_a_cats_points_mirror_so_that_outer_stays_outer():
    # The first annotation of the Cat data set: eyes, mouth, then the ears from the left to the right.
    cat = np.array([175, 160, 239, 162, 199, 199, 149, 121, 137, 78, 166, 93, 281, 101, 312, 96, 296, 133])
    cat = cat.reshape(9, 2)
    points = point_set("cats-9")
    mirrored = (np.array([400, 0]) + np.array([-1, 1]) * cat)[points.mirror]
    left = [name for name in points.points if "left" in name]
    right = [name.replace("left", "right") for name in left]
    for face in (cat, mirrored):
        assert (face[points.numbers(left), 0] < face[points.numbers(right), 0]).all()
    tips = points.numbers(["ear_left_tip", "ear_right_tip"])
    outer = points.numbers(["ear_left_outer", "ear_right_outer"])
    inner = points.numbers(["ear_left_inner", "ear_right_inner"])
    for face in (cat, mirrored):
        assert (face[tips, 1] < face[outer, 1]).all()
        spread = [abs(face[part, 0] - face[:2, 0].mean()) for part in (outer, inner)]
        assert (spread[0] > spread[1]).all()


def test_eyes_of_a_drawn_face_are_where_it_has_them():
    _, places = draw_face(sample_face(seed=0, index=3), 64)
    left, right = point_set("drawn-29").eye_centres(places)
    names = list(LANDMARKS)
    assert np.linalg.norm(left - places[names.index("pupil_left")]) < 0.02
    assert np.linalg.norm(right - places[names.index("pupil_right")]) < 0.02
    assert left[0] < right[0]
    assert point_set("drawn-29").eye_centres(np.stack([places] * 2)).shape == (2, 2, 2)


def test_a_users_set_from_a_file(tmp_path):
    path = tmp_path / "mes points.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    points = point_set(path)
    assert (points.name, points.points, list(points.mirror)) == ("mes points", ("a", "b", "c"), [1, 0, 2])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"points": []}, "has no points|not among"),
        ({"points": ["a", "b", "a"]}, "one name"),
        ({"pairs": [["a", "z"]]}, "z stands in it"),
        ({"pairs": [["a", "b"], ["b", "c"]]}, "two pairs"),
        ({"pairs": [["a", "b", "c"]]}, "docs/landmarks.md"),
        ({"areas": {"eyes": []}}, "no points"),
        ({"areas": {"eyes": "ab"}}, "no list of names"),
        ({"areas": ["a"]}, "docs/landmarks.md"),
        ({"scale": ["a", "a"]}, "twice"),
        ({"eyes": {"left": ["a"]}}, "right"),
        ({"points": [1, 2, 3]}, "no list of names"),
    ],
)
def test_a_wrong_set_is_one_line(tmp_path, change, said):
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(GOOD | change), encoding="utf-8")
    with pytest.raises(UserError, match=said) as told:
        point_set(path)
    assert "odd" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_set_that_is_not_there_or_no_json(tmp_path):
    with pytest.raises(UserError, match=r"no point set dogs.*faces-68"):
        point_set("dogs")
    (tmp_path / "text.json").write_text("eyes")
    with pytest.raises(UserError, match="is no JSON"):
        point_set(tmp_path / "text.json")
    with pytest.raises(UserError, match=r"5 landmarks.*--points"):
        point_set_of(5)
