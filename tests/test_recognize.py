"""The recognize.py script: names, galleries, thresholds and errors."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.checkpoint import FORMAT
from engine.errors import UserError
from engine.png import load_png
from faces.recognition import calibrate, commands
from faces.recognition.face_crops import FaceCrops
from faces.recognition.gallery import load_gallery
from faces.recognition.recognizer import load_recognizer
from images.decode import decode_full
from tests.faces.detection.tiny_yunet import BOX, save_tiny_yunet
from tests.in_process import call, refusal, succeed

run, error_line = (partial(function, "recognize.py") for function in (succeed, refusal))
WHOLE = ("--whole-image", "--device", "cpu")
CALIBRATE = (*WHOLE, "--workers", 0)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(folder: Path, first: int = 0, last: int = 99) -> list[Path]:
    return sorted(folder.iterdir())[first:last]


def test_predict_names_each_image_with_its_probability(scratch_run, drawn_people):
    person = sorted(drawn_people.iterdir())[2]
    result = run("predict", scratch_run, person, *WHOLE, "--json", "--output", "out")
    rows = json.loads("\n".join(result.lines))
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
    lines = run("predict", scratch_run, person, *WHOLE, "--no-copies", "--output", "other").lines
    assert f"{len(rows)} faces: {person.name}" in lines[-2]
    assert {path.name for path in Path("other").iterdir()} == {"recognized.csv", ".recognize.made"}


def test_each_face_of_a_group_photo_is_named(scratch_run, drawn_people, monkeypatch):
    """The boxes are given; the rest is as usual."""
    people = sorted(drawn_people.iterdir())[:3]
    group = np.concatenate([load_png(files(person)[0]) for person in people], axis=2)
    Image.fromarray(np.moveaxis(group, 0, -1)).save("group.png")
    side = group.shape[1]
    boxes = [(float(left), 0.0, float(left + side), float(side)) for left in range(0, 3 * side, side)]

    def fixed_cropper(crop_side: int, detector: object, enlarge: float):
        def crop(path: Path) -> FaceCrops:
            photo = decode_full(path)
            faces = [
                Image.fromarray(np.moveaxis(photo[:, :, int(box[0]) : int(box[2])], 0, -1)) for box in boxes
            ]
            scaled = [face.resize((crop_side, crop_side)) for face in faces]
            return FaceCrops(
                photo, boxes, np.stack([np.moveaxis(np.asarray(face), -1, 0) for face in scaled])
            )

        return crop

    monkeypatch.setattr(commands, "detected_face_cropper", fixed_cropper)
    rows = json.loads("\n".join(run("predict", scratch_run, "group.png", "--json", "--device", "cpu").lines))
    assert [(row["face"], row["left"], row["right"]) for row in rows] == [
        (face, box[0], box[2]) for face, box in enumerate(boxes)
    ]
    assert sum(row["name"] == person.name for row, person in zip(rows, people, strict=True)) >= 2


def test_photo_without_a_face_is_an_error(scratch_run):
    pytest.importorskip("cv2", reason="the extra 'photos' is not installed")
    Image.new("RGB", (200, 200), "white").save("nobody.png")
    assert "nobody.png: no face found" in error_line("predict", scratch_run, "nobody.png")


def test_each_detected_face_has_its_box_and_a_name(scratch_run, drawn_people):
    pytest.importorskip("cv2", reason="the extra 'photos' is not installed")
    pytest.importorskip("onnx", reason="needs onnx to make a small network")
    save_tiny_yunet(Path("tiny.onnx"))
    group = np.zeros((3, 160, 320), np.uint8)
    middles = (60, 164, 252)
    for middle in middles:
        group[0, 72:80, middle - 4 : middle + 4] = 255  # a face for this detector
    Image.fromarray(np.moveaxis(group, 0, -1)).save("group.png")
    words = ("group.png", "--detector", "tiny.onnx", "--json", "--device", "cpu")
    rows = sorted(
        json.loads("\n".join(run("predict", scratch_run, *words).lines)), key=lambda row: row["left"]
    )
    assert [(row["left"] + row["right"]) / 2 for row in rows] == pytest.approx(middles, abs=0.5)
    assert [row["bottom"] - row["top"] for row in rows] == pytest.approx([BOX[1]] * 3, abs=0.5)
    assert {row["name"] for row in rows} <= {person.name for person in drawn_people.iterdir()}
    copy = load_png("outputs/recognized/group.png")
    for row in rows:
        left, center_crop = round(row["left"]), round((row["top"] + row["bottom"]) / 2)
        assert (copy != group)[:, center_crop, left - 2 : left + 3].any(), "the left side of its box"


def test_new_person_is_enrolled_and_identified_and_strangers_are_unknown(arcface_run, strangers):
    known, *others = sorted(strangers.iterdir())
    new = ("--checkpoint", arcface_run)
    assert (
        "4 embeddings; 1 person" in run("enroll", "g.npz", "Ada", *files(known, 0, 4), *new, *WHOLE).lines[0]
    )
    run("enroll", "g.npz", "Bo", *files(others[0], 0, 4), *WHOLE)
    lines = run(
        "calibrate",
        arcface_run,
        strangers,
        "--whole-image",
        "--far",
        0.1,
        "--gallery",
        "g.npz",
        "--workers",
        0,
    ).lines
    assert any("threshold written to g.npz" in line for line in lines)

    def named(person: Path) -> list[str]:
        result = run("identify", "g.npz", *files(person, 4), *WHOLE, "--json", "--no-copies")
        return [row["name"] for row in json.loads("\n".join(result.lines))]

    assert named(known).count("Ada") >= 4  # of 6
    for stranger in others[1:]:
        assert named(stranger).count("unknown") >= 4
    assert "removed Ada" in run("remove", "g.npz", "Ada").lines[0]
    assert "Ada" not in named(known)
    listed = json.loads("\n".join(run("list", "g.npz", "--json").lines))
    assert listed["people"] == {"Bo": 4}
    assert listed["network"] == load_recognizer(arcface_run).digest
    assert any("Bo: 4 embeddings" in line for line in run("list", "g.npz").lines)


def test_calibration_scores_and_curves(arcface_run, strangers, monkeypatch):
    lines = run("calibrate", arcface_run, strangers, "--far", 0.05, "--output", "cal", *CALIBRATE).lines
    values = json.loads(Path("cal/calibration.json").read_text())
    assert values["open_set"]["strangers_named"] <= 0.05
    assert values["closed_set"]["rank_1"] > 0.5  # chance is a sixth
    assert values["closed_set"]["balanced_rank_1"] == pytest.approx(values["closed_set"]["rank_1"])
    assert values["verification"]["area_under_curve"] > 0.8
    assert (values["verification"]["genuine_pairs"], values["verification"]["impostor_pairs"]) == (270, 1500)
    # Of 1,500 pairs, 150, 15 and 1.5 are accepted at these rates: only the first is enough.
    assert list(values["verification"]["tar_at_far"]) == ["0.1"]
    assert lines[4].startswith("270 genuine pairs, 1,500 impostor pairs")
    assert lines[5].endswith("at FAR 10% (150 impostor pairs)")
    assert "FAR 0.1% requires 30,000 impostor pairs, FAR 1% requires 3,000 impostor pairs" in lines[6]
    assert values["open_set"]["images_looked_up"] == 36
    assert "is approximate: FAR 5% requires 600 identified images" in lines[2]
    assert -1 <= values["threshold"] <= 1
    with Path("cal/curves.csv").open(encoding="utf-8") as file:
        assert {row["curve"] for row in csv.DictReader(file)} == {"pairs", "open set"}
    assert load_png("cal/roc.png").shape[0] == 3
    assert lines[0] == "60 images of 6 people: 4 of each enrolled, 36 identified"
    assert "leaves none to identify" in error_line(
        "calibrate", arcface_run, strangers, "--whole-image", "--enrolled", 10, "--workers", 0
    )
    assert "--far must be" in error_line("calibrate", arcface_run, strangers, "--whole-image", "--far", 1.5)
    monkeypatch.setattr(calibrate, "MAX_IMAGES", 59)
    assert "60 images, too many to compare" in error_line("calibrate", arcface_run, strangers, *CALIBRATE)


@pytest.fixture
def gallery(arcface_run, strangers) -> Path:
    run(
        "enroll",
        "g.npz",
        "Ada",
        *files(sorted(strangers.iterdir())[0], 0, 2),
        "--checkpoint",
        arcface_run,
        *WHOLE,
    )
    return Path("g.npz")


def test_errors_leave_the_gallery_unchanged(gallery, arcface_run, scratch_run, strangers):
    before = gallery.read_bytes()
    face = files(sorted(strangers.iterdir())[1])[0]
    Path("broken.png").write_bytes(face.read_bytes()[:200])
    line = error_line("enroll", gallery, "Bo", "broken.png", *WHOLE)
    assert "no image can be enrolled: broken.png: cannot be decoded" in line
    assert "another network" in error_line("enroll", gallery, "Bo", face, "--checkpoint", scratch_run, *WHOLE)
    assert "another network" in error_line("identify", gallery, face, "--checkpoint", scratch_run, *WHOLE)
    assert "another network" in error_line(
        "calibrate", scratch_run, strangers, "--whole-image", "--gallery", gallery
    )
    assert "is not a name" in error_line("enroll", gallery, " ", face, *WHOLE)
    assert "the name Unknown stands for strangers" in error_line("enroll", gallery, "Unknown", face, *WHOLE)
    assert "Bo is not in the gallery, which has: Ada" in error_line("remove", gallery, "Bo")
    assert "has no threshold" in error_line("identify", gallery, face, *WHOLE)
    for threshold in (1.5, -1.01, "nan"):
        assert "from -1 to 1" in error_line("identify", gallery, face, "--threshold", threshold, *WHOLE)
    assert "no photo or folder gone.png" in error_line("enroll", gallery, "Bo", "gone.png", *WHOLE)
    adas = files(sorted(strangers.iterdir())[0])[1]
    assert "001.png is already enrolled as Ada" in error_line("enroll", gallery, "Bo", face, adas, *WHOLE)
    assert gallery.read_bytes() == before


def test_enrolling_the_same_images_again_adds_nothing(gallery, strangers):
    before = load_gallery(gallery)
    first, second, third = files(sorted(strangers.iterdir())[0], 0, 3)
    lines = run("enroll", gallery, " Ada", second, third, first, *WHOLE).lines
    assert "Ada: 3 embeddings; 1 person" in lines[0]
    assert lines[1] == "already in the gallery: 2 of 3 images"
    assert np.array_equal(load_gallery(gallery).embeddings[:2], before.embeddings)


def test_missing_and_wrong_files(strangers):
    face = files(sorted(strangers.iterdir())[1])[0]
    assert "no photo is given" in error_line("identify", "g.npz")
    assert "no photo is given" in error_line("predict", "2")
    assert "--workers must be" in error_line("calibrate", "2", strangers, "--whole-image", "--workers", -3)
    assert "--enrolled must be" in error_line("calibrate", "2", strangers, "--whole-image", "--enrolled", 0)
    assert "does not exist yet: give its network" in error_line("enroll", "new.npz", "Bo", face, *WHOLE)
    assert "cannot be opened" in error_line("list", "gone.npz")
    Path("text.npz").write_text("hello")
    assert "not a gallery" in error_line("identify", "text.npz", face, *WHOLE)
    torch.save({"format": FORMAT, "step": 1, "kind": "landmarks"}, "other.pt")
    assert "contains no classifier" in error_line("predict", "other.pt", face, *WHOLE)


def test_name_without_a_font_is_a_number_on_copies(gallery, strangers, monkeypatch):
    monkeypatch.setattr("images.fonts._installed_fonts", lambda: [])
    first, second = (files(person)[0] for person in sorted(strangers.iterdir())[:2])
    run("enroll", gallery, "李小龙", second, *WHOLE)
    result = run("identify", gallery, first, second, "--threshold", 0.99, *WHOLE)
    assert "李小龙 1.00" in result.lines[1]
    assert "note: no installed font has the letters of 李小龙: copies show" in result.error
    assert len(list(Path("outputs/recognized").glob("*.png"))) == 2
    assert "note" not in run("identify", gallery, first, "--threshold", 0.99, *WHOLE).error


def test_gallery_finds_its_network_by_digest(gallery, arcface_run, strangers, scratch_run):
    face = files(sorted(strangers.iterdir())[0])[0]
    moved = Path("moved.pt")
    shutil.copy(load_gallery(gallery).checkpoint, moved)
    rows = run("identify", gallery, face, "--threshold", 0, "--checkpoint", moved, *WHOLE).lines
    assert "Ada 1.00" in rows[0], "the same weights in another file"
    saved = load_gallery(gallery)
    object.__setattr__(saved, "checkpoint", Path("gone.pt"))
    saved.save(gallery)
    assert "is no longer at gone.pt" in error_line("identify", gallery, face, "--threshold", 0, *WHOLE)


def test_corrupt_photo_is_reported_and_the_others_are_named(scratch_run, drawn_people):
    good = files(sorted(drawn_people.iterdir())[0])[0]
    Path("bad.png").write_bytes(b"broken")
    result = call("recognize.py", "predict", scratch_run, "bad.png", good, *WHOLE)
    assert result.code == 0
    assert "left out: bad.png: not a JPEG" in result.error
    assert str(good) in result.lines[0]
    assert len(list(Path("outputs/recognized").glob("*.png"))) == 1


def test_empty_photo_is_reported(scratch_run, gallery, drawn_people):
    folder = Path("photos")
    shutil.copytree(sorted(drawn_people.iterdir())[0], folder)
    (folder / "empty.jpg").touch()
    assert "left out: photos/empty.jpg: empty file" in run("predict", scratch_run, folder, *WHOLE).error
    assert "left out: photos/empty.jpg: empty file" in run("enroll", gallery, "Bo", folder, *WHOLE).error


@pytest.mark.parametrize("error", ["memory", "opencv"])
def test_photo_at_which_detection_fails_is_reported(scratch_run, gallery, drawn_people, monkeypatch, error):
    cv2 = pytest.importorskip("cv2", reason="the extra 'photos' is not installed")
    reason = {
        "memory": "not enough memory for face detection",
        "opencv": "OpenCV fails: (-4) Failed to allocate",
    }[error]
    odd, fine = files(sorted(drawn_people.iterdir())[0], 0, 2)

    def crop(path: Path) -> FaceCrops:
        if path == odd:
            raise MemoryError if error == "memory" else cv2.error("(-4) Failed to\nallocate")
        photo = decode_full(path)
        return FaceCrops(photo, [(0.0, 0.0, 40.0, 40.0)], photo[None, :, 4:36, 4:36])

    monkeypatch.setattr(commands, "detected_face_cropper", lambda *_: crop)
    result = run("predict", scratch_run, odd, fine, "--device", "cpu")
    assert f"left out: {odd}: {reason}" in result.error
    assert any(str(fine) in line for line in result.lines)
    result = run("enroll", gallery, "Bo", odd, fine)
    assert result.lines[0] == f"Bo: 1 embedding; 2 people in {gallery}"
    assert f"left out: {odd}: {reason}" in result.error


def test_file_names_that_are_too_long(scratch_run, gallery, drawn_people):
    person = sorted(drawn_people.iterdir())[0]
    long = "x" * 300
    for words in (
        ("predict", scratch_run, person, *WHOLE, "--output", long),
        ("calibrate", scratch_run, drawn_people, "--whole-image", "--output", long, "--workers", 0),
    ):
        assert f"{long} cannot be written to: File name too long" in error_line(*words)
    new = ("--checkpoint", scratch_run)
    assert f"{long} cannot be opened: File name too long" in error_line("enroll", long, "Bo", person, *new)


def test_photos_and_other_files_are_not_overwritten(scratch_run, gallery, drawn_people):
    folder = Path("photos")
    shutil.copytree(sorted(drawn_people.iterdir())[0], folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for command in (("predict", scratch_run), ("identify", gallery)):
        assert "contains the photos" in error_line(*command, folder, *WHOLE, "--output", folder)
    Path("mine").mkdir()
    for name in ("recognized.csv", "curves.csv"):
        (Path("mine") / name).write_text("by hand")
    for command in ("predict", "calibrate"):
        line = error_line(command, scratch_run, folder, "--output", "mine")
        assert "mine contains files that recognize.py did not write" in line
    assert [path.read_text() for path in Path("mine").iterdir()] == ["by hand"] * 2
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_embeddings_do_not_depend_on_the_batch(arcface_run, strangers):
    recognizer = load_recognizer(arcface_run)
    images = np.stack([load_png(path) for path in files(sorted(strangers.iterdir())[0])])
    embeddings = recognizer.embeddings(images)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(recognizer.embeddings(images[3:4])[0], embeddings[3], atol=1e-5)
    np.testing.assert_allclose(recognizer.probabilities(images).sum(1), 1, rtol=1e-5)


def test_features_that_are_all_zero_are_an_error(scratch_run):
    recognizer = load_recognizer(scratch_run)
    with torch.no_grad():
        for weight in recognizer.network.hidden.parameters():
            weight.zero_()
    with pytest.raises(UserError, match="gives no embedding of an image"):
        recognizer.embeddings(np.zeros((2, 3, 32, 32), np.uint8))


def test_evaluate_in_the_features_of_a_classifier(arcface_run, tiny_run, strangers):
    shutil.copytree(tiny_run, "run")
    flags = ("--count", 12, "--draws", 2, "--k", 2, "--device", "cpu", "--real", strangers)
    features = ("--features", "classifier", "--classifiers", arcface_run.parent, "--classifier")
    result = call("evaluate.py", "run", *flags, *features, 1)
    assert result.code == 0, result.error
    digest = load_recognizer(arcface_run).digest[:8]
    assert any(f"features: classifier (digest {digest}, 32 values)" in line for line in result.lines)
    for checkpoint, message in ((7, "7 is not a run"), (tiny_run, "contains no classifier")):
        assert message in call("evaluate.py", "run", *flags, *features, checkpoint).error
    for words in (("--features", "classifier"), ("--classifier", arcface_run)):
        result = call("evaluate.py", "run", *words)
        assert result.code == 2
        assert "go together" in result.error
