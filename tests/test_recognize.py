"""recognize.py as its user has it: names, galleries, thresholds, and what it refuses."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from engine.checkpoint import FORMAT
from engine.errors import UserError
from engine.png import load_png
from faces.recognition import calibrate as calibrating
from faces.recognition import commands as naming
from faces.recognition.face_crops import Seen
from faces.recognition.gallery import load_gallery
from faces.recognition.recognizer import load_recognizer
from images.decode import decode_full
from tests.conftest import draw_people
from tests.faces.detection.tiny_yunet import BOX, save_tiny_yunet
from tests.in_process import call, refusal, succeed

told, refused = (partial(way, "recognize.py") for way in (succeed, refusal))
WHOLE = ("--whole-image", "--device", "cpu")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn people whom no network of the tests has seen, ten faces each; do not change it."""
    folder = tmp_path_factory.mktemp("strangers") / "people"
    draw_people(folder, range(200, 206), 10)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(folder: Path, first: int = 0, last: int = 99) -> list[Path]:
    return sorted(folder.iterdir())[first:last]


def test_predict_names_each_image_with_its_probability(scratch_run, drawn_people):
    person = sorted(drawn_people.iterdir())[2]
    found = told("predict", scratch_run, person, *WHOLE, "--json", "--output", "out")
    rows = json.loads("\n".join(found.lines))
    assert len(rows) == len(files(person))
    assert sum(row["name"] == person.name for row in rows) > 0.7 * len(rows)
    assert all(1 / 8 <= row["score"] <= 1 for row in rows)
    assert {row["file"] for row in rows} == {str(path) for path in files(person)}
    with Path("out/recognized.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [(row["name"], float(row["score"])) for row in table] == [
        (row["name"], row["score"]) for row in rows
    ]
    copy, photo = load_png("out/000.png"), load_png(files(person)[0])
    assert copy.shape == photo.shape
    assert (copy != photo).any()
    lines = told("predict", scratch_run, person, *WHOLE, "--no-copies", "--output", "other").lines
    assert f"{len(rows)} faces: {person.name}" in lines[-2]
    assert {path.name for path in Path("other").iterdir()} == {"recognized.csv", ".recognize.made"}


def test_each_face_of_a_group_photo_is_named(scratch_run, drawn_people, monkeypatch):
    """A stand-in for the detector gives the boxes; the rest is the real way."""
    people = sorted(drawn_people.iterdir())[:3]
    group = np.concatenate([load_png(files(person)[0]) for person in people], axis=2)
    Image.fromarray(np.moveaxis(group, 0, -1)).save("group.png")
    side = group.shape[1]
    boxes = [(float(left), 0.0, float(left + side), float(side)) for left in range(0, 3 * side, side)]

    def stand_in(crop_side: int, detector: object, enlarge: float):
        def look(path: Path) -> Seen:
            photo = decode_full(path)
            crops = [photo[:, :, int(left) : int(right)] for left, _, right, _ in boxes]
            scaled = [
                Image.fromarray(np.moveaxis(crop, 0, -1)).resize((crop_side, crop_side)) for crop in crops
            ]
            return Seen(photo, boxes, np.stack([np.moveaxis(np.asarray(crop), -1, 0) for crop in scaled]))

        return look

    monkeypatch.setattr(naming, "faces_found", stand_in)
    rows = json.loads("\n".join(told("predict", scratch_run, "group.png", "--json", "--device", "cpu").lines))
    assert [(row["face"], row["left"], row["right"]) for row in rows] == [
        (face, box[0], box[2]) for face, box in enumerate(boxes)
    ]
    right = [row["name"] == person.name for row, person in zip(rows, people, strict=True)]
    assert sum(right) >= 2


def test_faces_are_found_by_the_detector(scratch_run, drawn_people):
    pytest.importorskip("cv2", reason="the extra 'photos' is not installed")
    Image.new("RGB", (200, 200), "white").save("nobody.png")
    assert "nobody.png: no face is found in it" in refused("predict", scratch_run, "nobody.png")


def test_each_face_that_a_detector_finds_has_its_box_and_a_name(scratch_run, drawn_people):
    pytest.importorskip("cv2", reason="the extra 'photos' is not installed")
    pytest.importorskip("onnx", reason="needs onnx to make a small network")
    save_tiny_yunet(Path("tiny.onnx"))
    group = np.zeros((3, 160, 320), np.uint8)
    middles = (60, 164, 252)
    for middle in middles:
        group[0, 72:80, middle - 4 : middle + 4] = 255  # what this detector takes for a face
    Image.fromarray(np.moveaxis(group, 0, -1)).save("group.png")
    words = ("group.png", "--detector", "tiny.onnx", "--json", "--device", "cpu")
    rows = sorted(
        json.loads("\n".join(told("predict", scratch_run, *words).lines)), key=lambda row: row["left"]
    )
    assert [(row["left"] + row["right"]) / 2 for row in rows] == pytest.approx(middles, abs=0.5)
    assert [row["bottom"] - row["top"] for row in rows] == pytest.approx([BOX[1]] * 3, abs=0.5)
    assert {row["name"] for row in rows} <= {person.name for person in drawn_people.iterdir()}
    copy = load_png("outputs/recognized/group.png")
    for row in rows:
        left, middle = round(row["left"]), round((row["top"] + row["bottom"]) / 2)
        assert (copy != group)[:, middle, left - 2 : left + 3].any(), "the left side of its box"


def test_somebody_new_is_enrolled_and_found_and_a_stranger_is_refused(arcface_run, strangers):
    known, *others = sorted(strangers.iterdir())
    new = ("--checkpoint", arcface_run)
    assert "4 vectors; 1 people" in told("enroll", "g.npz", "Ada", *files(known, 0, 4), *new, *WHOLE).lines[0]
    told("enroll", "g.npz", "Bo", *files(others[0], 0, 4), *WHOLE)
    lines = told(
        "calibrate", arcface_run, strangers, "--far", 0.1, "--gallery", "g.npz", "--workers", 0
    ).lines
    assert any("written into g.npz" in line for line in lines)

    def named(person: Path) -> list[str]:
        found = told("identify", "g.npz", *files(person, 4), *WHOLE, "--json", "--no-copies")
        return [row["name"] for row in json.loads("\n".join(found.lines))]

    assert named(known).count("Ada") >= 4  # of 6
    for stranger in others[1:]:
        assert named(stranger).count("unknown") >= 4
    assert "Ada is removed" in told("remove", "g.npz", "Ada").lines[0]
    assert "Ada" not in named(known)
    listed = json.loads("\n".join(told("list", "g.npz", "--json").lines))
    assert listed["people"] == {"Bo": 4}
    assert listed["network"] == load_recognizer(arcface_run).digest
    assert any("Bo: 4 vectors" in line for line in told("list", "g.npz").lines)


def test_calibration_tells_curves_for_closed_and_open_set(arcface_run, strangers, monkeypatch):
    lines = told("calibrate", arcface_run, strangers, "--far", 0.05, "--output", "cal", "--workers", 0).lines
    values = json.loads(Path("cal/calibration.json").read_text())
    assert values["open_set"]["strangers_named"] <= 0.05
    assert values["closed_set"]["rank_1"] > 0.5  # chance is a sixth
    assert values["closed_set"]["balanced_rank_1"] == pytest.approx(values["closed_set"]["rank_1"])
    assert values["verification"]["area_under_curve"] > 0.8
    assert (values["verification"]["genuine_pairs"], values["verification"]["impostor_pairs"]) == (270, 1500)
    # Of 1,500 pairs 150 and 15 and 1.5 are accepted: only the first is enough for a rate.
    assert list(values["verification"]["tar_at_far"]) == ["0.1"]
    assert lines[4].startswith("270 genuine pairs, 1,500 impostor pairs")
    assert lines[5].endswith("at FAR 10%, which is 150 impostor pairs")
    assert "FAR 0.1% takes 30,000 impostor pairs, FAR 1% takes 3,000 impostor pairs" in lines[6]
    assert values["open_set"]["images_looked_up"] == 36
    assert "a rough one: FAR 5% takes 600 images looked up" in lines[2]
    assert -1 <= values["threshold"] <= 1
    with Path("cal/curves.csv").open(encoding="utf-8") as file:
        assert {row["curve"] for row in csv.DictReader(file)} == {"pairs", "open set"}
    assert load_png("cal/roc.png").shape[0] == 3
    assert lines[0] == "60 images of 6 people, 4 of each enrolled, 36 looked up"
    assert "takes more" in refused("calibrate", arcface_run, strangers, "--enrolled", 10, "--workers", 0)
    assert "--far must be" in refused("calibrate", arcface_run, strangers, "--far", 1.5)
    monkeypatch.setattr(calibrating, "MOST", 59)
    assert "60 images, too many to compare" in refused("calibrate", arcface_run, strangers, "--workers", 0)


@pytest.fixture
def gallery(arcface_run, strangers) -> Path:
    told(
        "enroll",
        "g.npz",
        "Ada",
        *files(sorted(strangers.iterdir())[0], 0, 2),
        "--checkpoint",
        arcface_run,
        *WHOLE,
    )
    return Path("g.npz")


def test_what_is_refused_loses_nothing(gallery, arcface_run, scratch_run, strangers):
    before = gallery.read_bytes()
    face = files(sorted(strangers.iterdir())[1])[0]
    Path("broken.png").write_bytes(face.read_bytes()[:200])
    line = refused("enroll", gallery, "Bo", face, "broken.png", *WHOLE)
    assert "broken.png cannot be enrolled: cannot be decoded" in line
    assert "another network" in refused("enroll", gallery, "Bo", face, "--checkpoint", scratch_run, *WHOLE)
    assert "another network" in refused("identify", gallery, face, "--checkpoint", scratch_run, *WHOLE)
    assert "another network" in refused("calibrate", scratch_run, strangers, "--gallery", gallery)
    assert "is no name" in refused("enroll", gallery, " ", face, *WHOLE)
    assert "what identify calls a stranger" in refused("enroll", gallery, "Unknown", face, *WHOLE)
    assert "Bo is not in the gallery; there are: Ada" in refused("remove", gallery, "Bo")
    assert "has no threshold" in refused("identify", gallery, face, *WHOLE)
    for threshold in (1.5, -1.01, "nan"):
        assert "from -1 to 1" in refused("identify", gallery, face, "--threshold", threshold, *WHOLE)
    assert "no photo or folder gone.png" in refused("enroll", gallery, "Bo", "gone.png", *WHOLE)
    adas = files(sorted(strangers.iterdir())[0])[1]
    assert "001.png is in the gallery as Ada already" in refused("enroll", gallery, "Bo", face, adas, *WHOLE)
    assert gallery.read_bytes() == before


def test_enrolling_the_same_images_again_adds_nothing(gallery, strangers):
    before = load_gallery(gallery)
    first, second, third = files(sorted(strangers.iterdir())[0], 0, 3)
    lines = told("enroll", gallery, " Ada", second, third, first, *WHOLE).lines
    assert "Ada: 3 vectors; 1 people" in lines[0]
    assert lines[1] == "2 of 3 images were in it already and are not added again"
    assert np.array_equal(load_gallery(gallery).vectors[:2], before.vectors)


def test_files_that_are_none(strangers):
    face = files(sorted(strangers.iterdir())[1])[0]
    assert "no photo is given" in refused("identify", "g.npz")
    assert "no photo is given" in refused("predict", "2")
    assert "--workers must be" in refused("calibrate", "2", strangers, "--workers", -3)
    assert "--enrolled must be" in refused("calibrate", "2", strangers, "--enrolled", 0)
    assert "say by --checkpoint" in refused("enroll", "new.npz", "Bo", face, *WHOLE)
    assert "cannot be opened" in refused("list", "gone.npz")
    Path("text.npz").write_text("hello")
    assert "no gallery" in refused("identify", "text.npz", face, *WHOLE)
    assert "holds no classifier" in refused("predict", _of_landmarks(), face, *WHOLE)


def _of_landmarks() -> Path:
    path = Path("other.pt")
    torch.save({"format": FORMAT, "step": 1, "kind": "landmarks"}, path)
    return path


def test_a_name_that_no_font_can_write_is_a_number_on_copies(gallery, strangers, monkeypatch):
    monkeypatch.setattr("images.fonts._installed_fonts", lambda: [])
    ours, theirs = (files(person)[0] for person in sorted(strangers.iterdir())[:2])
    told("enroll", gallery, "李小龙", theirs, *WHOLE)
    found = told("identify", gallery, ours, theirs, "--threshold", 0.99, *WHOLE)
    assert "李小龙 1.00" in found.lines[1]
    assert "note: no font is found for the letters of 李小龙, and copies show" in found.error
    assert len(list(Path("outputs/recognized").glob("*.png"))) == 2
    assert "note" not in told("identify", gallery, ours, "--threshold", 0.99, *WHOLE).error


def test_a_network_that_has_trained_on_is_another(gallery, arcface_run, strangers, scratch_run):
    face = files(sorted(strangers.iterdir())[0])[0]
    moved = Path("moved.pt")
    shutil.copy(load_gallery(gallery).checkpoint, moved)
    rows = told("identify", gallery, face, "--threshold", 0, "--checkpoint", moved, *WHOLE).lines
    assert "Ada 1.00" in rows[0], "the same weights elsewhere are the same network"
    saved = load_gallery(gallery)
    object.__setattr__(saved, "checkpoint", Path("gone.pt"))
    saved.save(gallery)
    assert "is no longer at gone.pt" in refused("identify", gallery, face, "--threshold", 0, *WHOLE)


def test_a_corrupt_photo_among_others_is_told_and_the_others_are_done(scratch_run, drawn_people):
    good = files(sorted(drawn_people.iterdir())[0])[0]
    Path("bad.png").write_bytes(b"broken")
    found = call("recognize.py", "predict", scratch_run, "bad.png", good, *WHOLE)
    assert found.code == 0
    assert "left out: bad.png: not a JPEG" in found.error
    assert str(good) in found.lines[0]
    assert len(list(Path("outputs/recognized").glob("*.png"))) == 1


def test_a_photo_that_cannot_be_opened_is_told(scratch_run, gallery, drawn_people):
    folder = Path("photos")
    shutil.copytree(sorted(drawn_people.iterdir())[0], folder)
    (folder / "empty.jpg").touch()
    assert "left out: photos/empty.jpg: empty file" in told("predict", scratch_run, folder, *WHOLE).error
    assert "photos/empty.jpg cannot be enrolled: empty file" in refused(
        "enroll", gallery, "Bo", folder, *WHOLE
    )


@pytest.mark.parametrize("error", ["memory", "opencv"])
def test_a_photo_at_which_the_search_fails_is_one_among_others(
    scratch_run, gallery, drawn_people, monkeypatch, error
):
    cv2 = pytest.importorskip("cv2", reason="the extra 'photos' is not installed")
    said = {
        "memory": "not enough memory to look for faces in it",
        "opencv": "OpenCV fails at it: (-4) Failed to allocate",
    }[error]
    odd, fine = files(sorted(drawn_people.iterdir())[0], 0, 2)

    def look(path: Path) -> Seen:
        if path == odd:
            raise MemoryError if error == "memory" else cv2.error("(-4) Failed to\nallocate")
        photo = decode_full(path)
        return Seen(photo, [(0.0, 0.0, 40.0, 40.0)], photo[None, :, 4:36, 4:36])

    monkeypatch.setattr(naming, "faces_found", lambda *_: look)
    found = told("predict", scratch_run, odd, fine, "--device", "cpu")
    assert f"left out: {odd}: {said}" in found.error
    assert any(str(fine) in line for line in found.lines)
    assert f"{odd} cannot be enrolled: {said}; nothing was changed" in refused("enroll", gallery, "Bo", odd)


def test_names_that_are_too_long_are_one_line(scratch_run, gallery, drawn_people):
    person = sorted(drawn_people.iterdir())[0]
    long = "x" * 300
    for words in (
        ("predict", scratch_run, person, *WHOLE, "--output", long),
        ("calibrate", scratch_run, drawn_people, "--output", long, "--workers", 0),
    ):
        assert f"{long} cannot be written to: File name too long" in refused(*words)
    new = ("--checkpoint", scratch_run)
    assert f"{long} cannot be opened: File name too long" in refused("enroll", long, "Bo", person, *new)


def test_photos_are_never_written_over(scratch_run, gallery, drawn_people):
    folder = Path("photos")
    shutil.copytree(sorted(drawn_people.iterdir())[0], folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for command in (("predict", scratch_run), ("identify", gallery)):
        assert "holds the photos" in refused(*command, folder, *WHOLE, "--output", folder)
    Path("mine").mkdir()
    for name in ("recognized.csv", "curves.csv"):
        (Path("mine") / name).write_text("by hand")
    assert "mine/recognized.csv was not made" in refused("predict", scratch_run, folder, "--output", "mine")
    words = ("calibrate", scratch_run, folder, "--output", "mine")
    assert "mine/curves.csv was not made by recognize.py" in refused(*words)
    assert [path.read_text() for path in Path("mine").iterdir()] == ["by hand"] * 2
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_image_with_two_faces_or_none_is_not_enrolled(gallery, strangers, monkeypatch):
    before = gallery.read_bytes()
    face = files(sorted(strangers.iterdir())[1])[0]
    for count, said in ((0, "no face is found"), (2, "2 faces are found")):
        crops = np.zeros((count, 3, 32, 32), np.uint8)
        look = SimpleNamespace(crops=crops)
        monkeypatch.setattr(naming, "faces_found", lambda *_, look=look: lambda path: look)
        assert said in refused("enroll", gallery, "Bo", face)
    assert gallery.read_bytes() == before


def test_vectors_are_those_of_the_images_alone(arcface_run, strangers):
    recognizer = load_recognizer(arcface_run)
    images = np.stack([load_png(path) for path in files(sorted(strangers.iterdir())[0])])
    vectors = recognizer.vectors(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(recognizer.vectors(images[3:4])[0], vectors[3], atol=1e-5)
    np.testing.assert_allclose(recognizer.probabilities(images).sum(1), 1, rtol=1e-5)


def test_features_that_are_all_zero_are_no_vector(scratch_run):
    recognizer = load_recognizer(scratch_run)
    with torch.no_grad():
        for weight in recognizer.network.hidden.parameters():
            weight.zero_()
    with pytest.raises(UserError, match="makes no vector of an image"):
        recognizer.vectors(np.zeros((2, 3, 32, 32), np.uint8))


def test_a_generators_faces_are_measured_in_a_classifiers_features(arcface_run, tiny_run, strangers):
    run = shutil.copytree(tiny_run, "run")
    flags = ("--count", 12, "--draws", 2, "--k", 2, "--device", "cpu", "--real", strangers)
    sought = ("--features", "classifier", "--classifiers", arcface_run.parent, "--classifier")
    found = call("evaluate.py", run, *flags, *sought, 1)
    assert found.code == 0, found.error
    digest = load_recognizer(arcface_run).digest[:8]
    assert any(f"features: classifier (digest {digest}, 32 values)" in line for line in found.lines)
    for named, said in ((7, "7 is not a run"), (tiny_run, "holds no classifier")):
        assert said in call("evaluate.py", run, *flags, *sought, named).error
    for words in (("--features", "classifier"), ("--classifier", arcface_run)):
        told = call("evaluate.py", run, *words)
        assert told.code == 2
        assert "go together" in told.error
