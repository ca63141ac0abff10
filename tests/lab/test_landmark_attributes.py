from dataclasses import replace

import numpy as np
import pytest

from engine.errors import UserError
from faces.drawn import Face, draw_face, sample_person, sample_scene
from faces.landmarks.point_set import load_point_set
from lab.landmark_attributes import landmark_attributes, names_of

ALL = ("yaw", "tilt", "smile", "mouth_wide", "mouth_open", "eyes_open")
DRAWN = load_point_set("drawn-29")


def measure(**changes: float) -> dict[str, float]:
    """Attributes of a drawn face, by its true landmarks."""
    scene = replace(sample_scene(0, 3), turn=0, nod=0, tilt=0, smile=0, mouth_open=0.2, eye_opening=0.5)
    landmarks = draw_face(Face(sample_person(0, 1), replace(scene, **changes)), 64)[1]
    values = landmark_attributes(landmarks[None] * 64, DRAWN)
    return {name: float(value[0]) for name, value in values.items()}


@pytest.mark.parametrize(
    ("label", "name", "low"),
    [
        ("turn", "yaw", -1),
        ("smile", "smile", -1),
        ("mouth_open", "mouth_open", 0),
        ("eye_opening", "eyes_open", 0),
    ],
)
def test_attributes_follow_the_labels_of_drawn_faces(label, name, low):
    values = [measure(**{label: value})[name] for value in np.linspace(low, 1, 5)]
    assert values == sorted(values)
    assert values[-1] - values[0] > 0.02


def test_the_width_of_the_mouth_is_in_distances_of_the_eyes():
    points = np.zeros((1, 29, 2))
    for name, x in (("eye_left", -10), ("eye_right", 10), ("mouth_left", -12), ("mouth_right", 12)):
        points[:, [row for row, point in enumerate(DRAWN.points) if point.startswith(name)], 0] = x
    eyes = DRAWN.eye_centres(points)[0]
    assert eyes[1, 0] > eyes[0, 0]
    assert landmark_attributes(points, DRAWN)["mouth_wide"] == pytest.approx(24 / (eyes[1, 0] - eyes[0, 0]))


def test_the_face_may_be_tilted_moved_and_scaled():
    scene = sample_scene(0, 3)
    points = draw_face(Face(sample_person(0, 1), scene), 64)[1] * 64
    angle = np.radians(20)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    first, second = (landmark_attributes(one[None], DRAWN) for one in (points, 3 * points @ rotation + 7))
    assert second["tilt"][0] - first["tilt"][0] == pytest.approx(20)
    for name in set(ALL) - {"tilt"}:
        assert second[name][0] == pytest.approx(first[name][0])


def test_which_attributes_a_point_set_shows():
    assert names_of(DRAWN) == names_of(load_point_set("faces-68")) == ALL
    assert names_of(load_point_set("faces-5")) == ("yaw", "tilt", "mouth_wide")
    assert names_of(load_point_set("cats-9")) == ("yaw", "tilt")
    eyes = replace(
        DRAWN,
        points=DRAWN.points[:2],
        pairs=(DRAWN.points[:2],),
        areas={},
        eyes=(("cheek_left",), ("jaw_left",)),
        scale=("cheek_left", "jaw_left"),
    )
    with pytest.raises(UserError, match="shows neither yaw nor a mouth"):
        names_of(eyes)


def test_coinciding_eyes_give_numbers():
    values = landmark_attributes(np.zeros((1, 29, 2)), DRAWN)
    assert all(np.isfinite(value).all() for value in values.values())
