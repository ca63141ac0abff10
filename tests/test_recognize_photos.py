"""recognize.py on photos with several faces, none, or strangers: what is named, enrolled and left out."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.png import load_png
from faces.recognition import commands
from faces.recognition.face_crops import FaceCrops
from faces.recognition.gallery import load_gallery
from faces.recognition.recognizer import load_recognizer
from images.decode import decode_full
from tests.in_process import refusal, succeed

run, error_line = (partial(function, "recognize.py") for function in (succeed, refusal))
WHOLE = ("--whole-image", "--device", "cpu")


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(folder: Path, first: int = 0, last: int = 99) -> list[Path]:
    return sorted(folder.iterdir())[first:last]


@pytest.fixture
def gallery(arcface_run, strangers) -> Path:
    """Two images of a person named Ada."""
    ada = files(sorted(strangers.iterdir())[0], 0, 2)
    run("enroll", "g.npz", "Ada", *ada, "--checkpoint", arcface_run, *WHOLE)
    return Path("g.npz")


def crop_by_name(monkeypatch, **sizes: list[float]) -> None:
    """Let the detector find faces of these sides in photos of these names without suffix."""

    def crop(path: Path) -> FaceCrops:
        photo, sides = decode_full(path), sizes[path.stem]
        crops = np.stack([np.roll(photo[:, :32, :32], index, 2) for index in range(len(sides))] or [[]])
        return FaceCrops(photo, [(0.0, 0.0, side, side) for side in sides], crops)

    monkeypatch.setattr(commands, "detected_face_cropper", lambda *_: crop)


def test_good_images_are_enrolled_and_awkward_ones_listed(gallery, strangers, monkeypatch):
    before = gallery.read_bytes()
    folder = Path("bo")
    folder.mkdir()
    names = ("alone", "group", "nobody", "twice")
    for path, name in zip(files(sorted(strangers.iterdir())[1], 0, 4), names, strict=True):
        shutil.copy(path, folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    crop_by_name(monkeypatch, alone=[20.0], group=[10.0, 30.0], nobody=[], twice=[25.0])
    line = error_line("enroll", gallery, "Bo", folder / "nobody.png", folder / "group.png")
    assert "no image can be enrolled (2 tried); the first: bo/nobody.png: no face found" in line
    assert gallery.read_bytes() == before
    result = run("enroll", gallery, "Bo", folder)
    assert result.lines[0] == f"Bo: 2 embeddings; 2 people in {gallery}"
    assert "left out: bo/group.png: 2 faces found; --largest-face takes the largest" in result.error
    assert "left out: bo/nobody.png: no face found" in result.error
    assert "left out: bo/broken.png: " in result.error
    assert run("enroll", gallery, "Bo", folder, "--largest-face").lines[0].startswith("Bo: 3 embeddings")
    # The larger face is the second crop.
    network = load_recognizer(load_gallery(gallery).checkpoint)
    group = np.roll(load_png(folder / "group.png")[:, :32, :32], 1, 2)
    assert load_gallery(gallery).people_with(network.embeddings(group[None])[0]) == ["Bo"]


def test_excluded_photos_are_not_named_or_enrolled(gallery, strangers):
    folder = Path("photos")
    shutil.copytree(sorted(strangers.iterdir())[1], folder / "old")
    for path in files(folder / "old", 0, 2):
        shutil.copy(path, folder)
    result = run("enroll", gallery, "Bo", folder, *WHOLE, "--exclude", "old", "001.*", "*.tif")
    assert result.lines[0].startswith("Bo: 1 embedding;")
    assert "note: 1 image and 1 folder excluded by --exclude" in result.error
    assert "note: --exclude '*.tif' matches no image or folder" in result.error
    flags = ("--threshold", 0, *WHOLE, "--no-copies")
    result = run("identify", gallery, *files(folder, 0, 2), *flags, "--exclude", "001.png")
    assert result.lines[-2].startswith("1 face: ")
    line = error_line("identify", gallery, "--exclude", "old", folder)
    assert "no photo is given; name photos or folders of photos, before --exclude" in line


def test_once_names_a_person_at_most_once(gallery, strangers, monkeypatch):
    """Two faces of one person in a photo: the first face is a slightly better match than the second."""
    ada, bo = (files(person) for person in sorted(strangers.iterdir())[:2])
    run("enroll", gallery, "Bo", *bo[:2], *WHOLE)
    faces = [load_png(path) for path in (ada[0], ada[1], bo[0])]

    def crop(path: Path) -> FaceCrops:
        return FaceCrops(decode_full(path), [(0.0, 0.0, 40.0, 40.0)] * 3, np.stack(faces))

    monkeypatch.setattr(commands, "detected_face_cropper", lambda *_: crop)
    flags = ("--threshold", 0.9, "--no-copies", "--json", "--device", "cpu")

    def named(*more: object) -> list[str]:
        return [
            row["name"]
            for row in json.loads("\n".join(run("identify", gallery, ada[0], *flags, *more).lines))
        ]

    assert named() == ["Ada", "Ada", "Bo"]
    pytest.importorskip("scipy", reason="the extra 'photos' is not installed")
    assert sorted(named("--once")) == ["Ada", "Bo", "unknown"]


def test_predict_once_gives_each_class_to_one_face(scratch_run, drawn_people, monkeypatch):
    pytest.importorskip("scipy", reason="the extra 'photos' is not installed")
    faces = [load_png(path) for path in files(sorted(drawn_people.iterdir())[2], 0, 3)]

    def crop(path: Path) -> FaceCrops:
        return FaceCrops(decode_full(path), [(0.0, 0.0, 40.0, 40.0)] * 3, np.stack(faces))

    monkeypatch.setattr(commands, "detected_face_cropper", lambda *_: crop)
    photo = files(sorted(drawn_people.iterdir())[2])[0]
    flags = ("--no-copies", "--json", "--device", "cpu", "--once")
    rows = json.loads("\n".join(run("predict", scratch_run, photo, *flags).lines))
    assert len({row["name"] for row in rows}) == 3


def test_predict_has_none_of_these_by_a_calibrated_threshold(scratch_run, drawn_people, strangers):
    shutil.copytree(scratch_run, "run")
    folder = Path("others")
    shutil.copytree(strangers, folder)
    known = sorted(drawn_people.iterdir())[0]
    shutil.copytree(known, folder / known.name)
    flags = ("--far", 0.1, "--workers", 0, *WHOLE)
    lines = run("calibrate", "run", folder, "--classes", *flags).lines
    assert lines[0] == "60 images of strangers, 14 of the classes"
    threshold = float(lines[1].split()[1].rstrip(":"))
    assert "is approximate: FAR 10% requires 300 images of strangers" in lines[2]
    assert "of the classes' images, " in lines[3]
    assert lines[4] == "threshold written to run/threshold.json"
    words = ("predict", "run", *files(sorted(strangers.iterdir())[0]), *files(known), "--no-copies", *WHOLE)
    result = run(*words, "--json")
    rows = json.loads("\n".join(result.lines))
    for row in rows:
        assert (row["name"] == "none of these") == (row["score"] < threshold - 1e-4), row
    assert any(row["name"] == "none of these" for row in rows[:10])
    assert f"note: faces below a probability of {threshold:.4f}, from run/threshold.json" in result.error
    assert "none of these" not in "".join(run(*words, "--threshold", 0).lines)
    assert "from 0 to 1, not 2.0" in error_line(*words, "--threshold", 2)
    Path("run/threshold.json").write_text('{"network": "other", "threshold": 0.99}')
    result = run(*words)
    assert "none of these" not in "".join(result.lines)
    assert "note: run/threshold.json is of another network" in result.error
    Path("run/threshold.json").write_text("{")
    assert "run/threshold.json cannot be read: calibrate it again" in error_line(*words)
    only_known = ("calibrate", "run", drawn_people, "--classes", *flags)
    assert "images of the classes only" in error_line(*only_known)
    for name, value in (("gallery", "g.npz"), ("label", "name"), ("output", "cal"), ("enrolled", 2)):
        line = error_line(*only_known, f"--{name}", value)
        assert f"--classes is for predict, and --{name} is for identify" in line
    assert not Path("cal").exists()


def test_calibration_detects_faces_unless_images_are_whole(arcface_run, strangers, monkeypatch):
    def crop(path: Path) -> FaceCrops:
        photo = decode_full(path)
        sides = [] if path.stem == "009" else [20.0, 30.0] if path.stem == "008" else [20.0]
        crops = np.stack([photo] * len(sides) or [[]])
        return FaceCrops(photo, [(0.0, 0.0, side, side) for side in sides], crops)

    monkeypatch.setattr(commands, "detected_face_cropper", lambda *_: crop)
    words = ("calibrate", arcface_run, strangers, "--far", 0.1, "--workers", 0, "--device", "cpu")
    result = run(*words)
    assert result.lines[0] == "48 images of 6 people: 4 of each enrolled, 24 identified"
    assert "left out: person-200/009.png: no face found" in result.error
    assert "left out: person-200/008.png: 2 faces found; --largest-face takes the largest" in result.error
    assert run(*words, "--largest-face").lines[0].startswith("54 images of 6 people")
    lines = run(*words, "--whole-image", "--exclude", "person-20[0-2]").lines
    assert lines[0].startswith("30 images of 3 people")
    monkeypatch.setattr(
        commands,
        "detected_face_cropper",
        lambda *_: lambda path: FaceCrops(decode_full(path), [], np.zeros(0)),
    )
    line = error_line(*words)
    assert "no face found in any of the 60 images" in line
    assert line.endswith("add --whole-image")
