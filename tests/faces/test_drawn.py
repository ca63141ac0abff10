from __future__ import annotations

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.errors import UserError
from faces.drawn import (
    LANDMARKS,
    Face,
    Person,
    Scene,
    attributes,
    default_folder,
    draw_face,
    sample_face,
    write_folder,
)
from faces.drawn import folder as drawn_folder
from faces.landmarks.point_set import load_point_set

BARE = Person(number=3, hair_style="bald", brow_thickness=-0.5)
PLAIN = Scene(light_strength=0.0)
ANY_FACE = st.builds(sample_face, st.integers(0, 2**40), st.integers(0, 2**40), st.integers(1, 9))


def draw(person: Person = BARE, scene: Scene = PLAIN, **changes) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The image of a face with some values changed, and its landmarks by name, in pixels."""
    traits = {field.name for field in dataclasses.fields(Person)}
    person = dataclasses.replace(person, **{name: value for name, value in changes.items() if name in traits})
    scene = dataclasses.replace(
        scene, **{name: value for name, value in changes.items() if name not in traits}
    )
    image, landmarks = draw_face(Face(person, scene))
    return image, dict(zip(LANDMARKS, landmarks * 112, strict=True))


def brightness(image: np.ndarray, place: np.ndarray) -> float:
    x, y = place.astype(int)
    return float(image[y, x].mean())


# Image and landmarks


@settings(max_examples=25, deadline=None)
@given(ANY_FACE)
def test_image_and_landmarks(face):
    image, landmarks = draw_face(face)
    assert image.shape == (112, 112, 3)
    assert image.dtype == np.uint8
    assert landmarks.shape == (len(LANDMARKS), 2)
    assert (landmarks > 0).all()
    assert (landmarks < 1).all()
    assert image.std() > 15


@pytest.mark.parametrize("size", [32, 48, 224])
def test_size_changes_only_the_resolution(size):
    face = sample_face(0, 5)
    image, landmarks = draw_face(face, size)
    usual, same = draw_face(face)
    assert image.shape == (size, size, 3)
    np.testing.assert_array_equal(landmarks, same)
    small = [
        np.asarray(Image.fromarray(each).resize((16, 16), Image.Resampling.BOX), int)
        for each in (image, usual)
    ]
    assert np.abs(small[0] - small[1]).mean() < 4


def test_drawing_is_reproducible_across_processes():
    code = (
        "import hashlib; from faces.drawn import draw_face, sample_face; digest = hashlib.sha256()\n"
        "for index in range(4):\n"
        "    for array in draw_face(sample_face(9, index, 2)): digest.update(array.tobytes())\n"
        "print(digest.hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, check=True, cwd=Path(drawn_folder.__file__).parents[2],
            env={"PYTHONHASHSEED": number, "OMP_NUM_THREADS": number},
        ).stdout
        for number in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1
    assert sample_face(9, 0) != sample_face(9, 1) != sample_face(10, 1)


def test_drawing_does_not_import_torch():
    code = "import sys, faces.drawn; sys.exit('torch' in sys.modules)"
    root = Path(drawn_folder.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


NUMBERS = [
    field.name
    for kind in (Person, Scene)
    for field in dataclasses.fields(kind)
    if field.type == "float" and not field.name.startswith(("hair_", "beard_", "hat_", "glasses_"))
]
REQUIRED = {
    "hair_lightness": {"hair_style": "short"}, "hair_redness": {"hair_style": "short"},
    "hair_grey": {"hair_style": "long"}, "hair_volume": {"hair_style": "wavy"},
    "hair_length": {"hair_style": "bob"}, "hair_parting": {"hair_style": "long"},
    "hair_dye": {"hair_style": "curly"},
    "hair_dye_hue": {"hair_style": "long", "hair_dye": 1.0}, "beard_length": {"beard": "full"},
    "glasses_colour": {"glasses": "round"}, "hat_hue": {"hat": "beanie"}, "hat_lightness": {"hat": "cap"},
}  # fmt: skip


@pytest.mark.parametrize("name", [*NUMBERS, *REQUIRED])
def test_each_number_changes_the_image(name):
    low = 0.1 if name in attributes._FROM_ZERO else -0.9
    required = REQUIRED.get(name, {})
    first, last = (draw(**required, **{name: value})[0].astype(int) for value in (low, 0.9))
    changed = np.abs(first - last).max(axis=2) > 8
    assert changed.sum() >= 12, f"{name} changes {changed.sum()} pixels"


@pytest.mark.parametrize("name", ["hair_style", "beard", "glasses", "hat"])
def test_each_choice_changes_the_image(name):
    pictures = [draw(**{name: choice})[0].astype(int) for choice in attributes._CHOICES[name]]
    for index, first in enumerate(pictures):
        for other in pictures[index + 1 :]:
            assert (np.abs(first - other).max(axis=2) > 12).sum() > 40, name


@pytest.mark.parametrize("turn", [-1, -0.5, 0, 0.5, 1])
@pytest.mark.parametrize(
    "scene", [PLAIN, dataclasses.replace(PLAIN, nod=1, tilt=-1), Scene(zoom=1, shift_x=1)]
)
def test_landmarks_of_pupils_and_chin(turn, scene):
    image, places = draw(scene=dataclasses.replace(scene, turn=turn, eye_opening=1.0))
    cheek = brightness(image, (places["nose_tip"] + places["eye_left_bottom"]) / 2)
    for side in ("left", "right"):
        x, y = places[f"pupil_{side}"].astype(int)
        assert image[y - 1 : y + 2, x - 1 : x + 2].mean(axis=2).min() < 70 < cheek
        inner, outer = places[f"eye_{side}_inner"], places[f"eye_{side}_outer"]
        assert min(inner[0], outer[0]) < places[f"pupil_{side}"][0] < max(inner[0], outer[0])
        assert places[f"eye_{side}_top"][1] < places[f"pupil_{side}"][1] < places[f"eye_{side}_bottom"][1]
    # The neck is in the shadow of the chin.
    down = np.array([0, 2.0])
    assert brightness(image, places["chin"] - 2 * down) > brightness(image, places["chin"] + down) + 8


@pytest.mark.parametrize("tilt", [-1, 0, 1])
def test_landmarks_of_the_mouth(tilt):
    image, places = draw(lip_colour=1.0, tilt=tilt, skin_tone=0.1)
    redness = image[..., 0].astype(int) - image[..., 1]
    middle = (places["mouth_left"] + places["mouth_right"] + places["mouth_bottom"]) / 3
    x, y = middle.astype(int)
    assert redness[y, x] > 80
    up = np.array([0, 4.0])
    for outside in (places["mouth_top"] - up, places["mouth_bottom"] + up):
        x, y = outside.astype(int)
        assert redness[y, x] < 70


def test_expressions_move_the_landmarks():
    def lift(smile: float) -> float:
        _, places = draw(smile=smile)
        return places["mouth_top"][1] - (places["mouth_left"][1] + places["mouth_right"][1]) / 2

    lifts = [lift(smile) for smile in (-1, -0.5, 0, 0.5, 1)]
    assert (np.diff(lifts) > 0.5).all()
    assert draw(mouth_open=1.0)[1]["mouth_bottom"][1] > draw()[1]["mouth_bottom"][1] + 3
    assert draw(brow_raise=1.0)[1]["brow_left_middle"][1] < draw()[1]["brow_left_middle"][1] - 1


def test_turn_moves_the_nose_against_the_cheeks():
    for turn in (-1, 1):
        _, places = draw(turn=turn)
        middle = (places["cheek_left"][0] + places["cheek_right"][0]) / 2
        assert (places["nose_tip"][0] - middle) * turn > 6


@settings(max_examples=15, deadline=None)
@given(ANY_FACE)
def test_mirrored_scene_mirrors_the_landmarks(face):
    scene = face.scene
    swapped = {name: -getattr(scene, name) for name in ("turn", "tilt", "shift_x", "gaze", "light_side")}
    _, places = draw_face(face, 32)
    _, mirrored = draw_face(Face(face.person, dataclasses.replace(scene, **swapped)), 32)
    np.testing.assert_allclose(
        mirrored, (places * (-1, 1) + (1, 0))[load_point_set("drawn-29").mirror], atol=1e-9
    )


def test_mirrored_scene_mirrors_the_image_of_a_symmetric_face():
    even_wall, changes = {"background_direction": 0.25}, {"turn": 0.6, "light_side": 0.4, "gaze": -0.3}
    image, _ = draw(**even_wall, **changes)
    other, _ = draw(**even_wall, **{name: -value for name, value in changes.items()})
    assert np.abs(image[:, ::-1].astype(int) - other).mean() < 1.5


# People and scenes


def test_person_is_the_same_in_all_scenes():
    faces = [sample_face(4, index, faces_per_person=3) for index in range(9)]
    assert [face.person.number for face in faces] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert faces[0].person == faces[1].person == faces[2].person != faces[3].person
    assert len({face.scene for face in faces}) == 9


def test_labels_cover_their_ranges():
    labels = [sample_face(0, index).labels() for index in range(400)]
    for name in ("skin_tone", "smile", "turn", "light_side", "head_width", "background_hue"):
        values = np.array([label[name] for label in labels])
        assert len(np.unique(values)) > 360
        span = 1 if name in attributes._FROM_ZERO else 2
        assert np.ptp(values) > 0.7 * span
    for name, choices in attributes._CHOICES.items():
        assert {label[name] for label in labels} == set(choices)


@settings(max_examples=60, deadline=None)
@given(ANY_FACE)
def test_labels_are_complete(face):
    labels = face.labels()
    person = {
        field.name: labels[field.name] for field in dataclasses.fields(Person) if field.name != "number"
    }
    scene = {field.name: labels[field.name] for field in dataclasses.fields(Scene)}
    assert Face(Person(number=labels["person"], **person), Scene(**scene)) == face
    assert len(labels) == 1 + len(person) + len(scene)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: Scene(smile=1.2), "smile"),
        (lambda: Scene(turn=float("nan")), "turn"),
        (lambda: Scene(mouth_open=-0.1), "mouth_open"),
        (lambda: Scene(hat="crown"), "beanie"),
        (lambda: Person(hair_style="mullet"), "hair_style"),
        (lambda: Person(number=-1), "number"),
        (lambda: sample_face(-1, 0), "seed"),
        (lambda: sample_face(0, 3, 0), "faces per person"),
        (lambda: draw_face(Face(BARE, PLAIN), 8), "32 to 1024"),
    ],
)
def test_invalid_values_are_rejected_by_name(wrong, named):
    with pytest.raises(UserError, match=named):
        wrong()


# The folder


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_folder_contents(tmp_path):
    folder = tmp_path / "drawn faces ü"
    assert write_folder(folder, 6, seed=2, size=48, faces_per_person=2, workers=0) == 6
    rows = table(folder)
    assert [row["file"] for row in rows] == [f"0000{index}.png" for index in range(6)]
    for index, row in enumerate(rows):
        face = sample_face(2, index, 2)
        image, landmarks = draw_face(face, 48)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / row["file"])), image)
        assert {name: row[name] for name in face.labels()} == {
            name: str(value) for name, value in face.labels().items()
        }
        places = [[float(row[f"{axis}{number}"]) for axis in "xy"] for number in range(len(LANDMARKS))]
        np.testing.assert_allclose(places, landmarks * 48, atol=6e-4)
    assert set(rows[0]) == {"file", *face.labels(), *(f"{a}{n}" for a in "xy" for n in range(len(LANDMARKS)))}


def test_default_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FACES_COUNT", "PEOPLE_COUNT"):
        monkeypatch.setattr(drawn_folder, name, 6)
    folders = [default_folder(0, many_per_person=many) for many in (False, True)]
    people = [[row["person"] for row in table(folder)] for folder in folders]
    assert people == [["0"] * 5 + ["1"], ["0"] * 6]


def test_workers_write_the_same_folder(tmp_path):
    write_folder(tmp_path / "alone", 5, size=32, workers=0)
    write_folder(tmp_path / "together", 5, size=32, workers=2)
    alone, together = (
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("alone", "together")
    )
    assert alone == together


def test_complete_and_incomplete_folders(tmp_path, monkeypatch):
    write_folder(tmp_path, 6, size=32, workers=0)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}

    with monkeypatch.context() as patch:
        patch.setattr(drawn_folder, "draw_face", None)
        assert write_folder(tmp_path, 6, size=32, workers=0) == 0
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before

    for name in ("labels.csv", "00001.png", "00005.png"):
        (tmp_path / name).unlink()
    assert write_folder(tmp_path, 6, size=32, workers=0) == 2
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    assert {name: bytes_ for name, (bytes_, _) in after.items()} == {
        name: bytes_ for name, (bytes_, _) in before.items()
    }
    assert after["00000.png"] == before["00000.png"]


def test_interruption_leaves_complete_images(tmp_path, monkeypatch):
    drawing, done = drawn_folder.draw_face, []

    def interrupted(face, size):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(face)
        return drawing(face, size)

    monkeypatch.setattr(drawn_folder, "draw_face", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path, 6, size=32, workers=0)
    assert {path.name for path in tmp_path.iterdir()} == {"drawn.json", "00000.png", "00001.png", "00002.png"}
    monkeypatch.setattr(drawn_folder, "draw_face", drawing)
    assert write_folder(tmp_path, 6, size=32, workers=0) == 3
    assert len(table(tmp_path)) == 6


def test_empty_image_is_drawn_again(tmp_path):
    write_folder(tmp_path, 3, size=32, workers=0)
    whole = (tmp_path / "00001.png").read_bytes()
    (tmp_path / "00001.png").write_bytes(b"")
    assert write_folder(tmp_path, 3, size=32, workers=0) == 1
    assert (tmp_path / "00001.png").read_bytes() == whole


def test_larger_count_adds_to_a_folder(tmp_path):
    write_folder(tmp_path, 3, size=32, workers=0)
    assert write_folder(tmp_path, 5, size=32, workers=0) == 2
    assert len(table(tmp_path)) == 5
    with pytest.raises(UserError, match="more than 4"):
        write_folder(tmp_path, 4, size=32, workers=0)


@pytest.mark.parametrize("other", [{"seed": 1}, {"size": 48}, {"faces_per_person": 1}])
def test_folder_with_other_settings_is_rejected(tmp_path, other):
    write_folder(tmp_path, 2, size=32, workers=0)
    with pytest.raises(UserError, match="name another folder"):
        write_folder(tmp_path, 2, **{"size": 32, "workers": 0, **other})


def test_other_folders_and_files_are_not_written_to(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="not drawn faces"):
        write_folder(tmp_path, 2, workers=0)
    with pytest.raises(UserError, match="is a file"):
        write_folder(tmp_path / "photo.jpg", 2, workers=0)
    with pytest.raises(UserError, match="cannot write"):
        write_folder(tmp_path / "photo.jpg" / "below", 2, workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"seed": -1}, {"size": 8}, {"faces_per_person": 0}, {"workers": -1}]
)
def test_invalid_arguments_create_no_folder(tmp_path, wrong):
    with pytest.raises(UserError, match=next(iter(wrong)).split("_")[0]):
        write_folder(tmp_path / "new", **{"count": 2, "workers": 0, **wrong})
    assert not (tmp_path / "new").exists()
