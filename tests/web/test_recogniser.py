"""Naming faces for the recogniser page: the same names as recognize.py's, and nothing lost."""

from __future__ import annotations

import base64
import io
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from faces.recognition.gallery import load_gallery
from faces.recognition.recognizer import load_recognizer
from tests.conftest import ROOT
from tests.faces.photos import photo
from tests.in_process import succeed
from web.context import Context
from web.server import create_app

NAME = "classifiers/0001-people-32px"
PEOPLE, CLASSES = f"people/{NAME}", f"classes/{NAME}"
FOUND = 3
"""Number of a drawn photo in which OpenCV's cascade finds the face."""


@pytest.fixture(scope="module")
def classifier(arcface_run: Path, strangers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one classifier, whose predict is calibrated."""
    output = tmp_path_factory.mktemp("outputs")
    run = output / NAME
    shutil.copytree(arcface_run, run)
    flags = ("--whole-image", "--device", "cpu", "--workers", 0, "--cache", output / "cache")
    succeed("recognize.py", "calibrate", run, strangers, "--classes", *flags)
    return output


@pytest.fixture
def output(classifier: Path, tmp_path: Path) -> Path:
    """A copy, to change."""
    return Path(shutil.copytree(classifier, tmp_path / "outputs"))


@pytest.fixture
def client(output: Path) -> TestClient:
    app = create_app(Context(output=output))
    return TestClient(app, base_url="http://127.0.0.1:8421", raise_server_exceptions=False)


def encode(pixels: np.ndarray, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.moveaxis(pixels, 0, -1)).save(buffer, form, **options)
    return buffer.getvalue()


def faces(client: TestClient, source: str, body: bytes, **query) -> dict:
    answer = client.post("/api/recogniser/faces", params={"source": source, **query}, content=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def crop_of(face: dict) -> bytes:
    return base64.b64decode(face["crop"].partition(",")[2])


def change(client: TestClient, what: str, body: bytes = b"", **query) -> dict:
    return client.post(f"/api/recogniser/{what}", params={"source": PEOPLE, **query}, content=body)


def person(folder: Path, number: int, image: int = 0) -> bytes:
    return sorted(sorted(folder.iterdir())[number].iterdir())[image].read_bytes()


def test_the_sources_are_a_gallery_and_the_classes_of_each_classifier(client):
    answer = client.get("/api/recogniser/sources").json()
    assert [source["name"] for source in answer["sources"]] == [PEOPLE, CLASSES]
    assert client.get("/api/recogniser/source", params={"source": "people/none"}).status_code == 404


def test_probabilities_sum_to_one_and_names_are_those_of_predict(client, output, strangers, tmp_path):
    body = person(strangers, 2)
    answer = faces(client, CLASSES, body, whole=1)
    (face,) = answer["faces"]
    assert sum(face["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert len(face["probabilities"]) == len(answer["names"]) + 1
    (tmp_path / "a.png").write_bytes(body)
    result = succeed(
        *("recognize.py", "predict", output / NAME, tmp_path / "a.png", "--whole-image", "--device", "cpu"),
        *("--threshold", 0, "--output", tmp_path / "named", "--no-copies"),
    )
    best = int(np.argmax(face["scores"]))
    assert f": {answer['names'][best]} {face['scores'][best]:.0%}" in result.lines[0]


def test_strangers_are_mostly_unknown_after_calibration(client, strangers):
    shares = [
        faces(client, CLASSES, person(strangers, number, image), whole=1)["faces"][0]["probabilities"][-1]
        for number in range(6)
        for image in (0, 5)
    ]
    assert np.mean(shares) > 0.3
    description = client.get("/api/recogniser/source", params={"source": CLASSES}).json()
    assert description["strangers"] == 60
    assert description["false_accept_rates"] == sorted(description["false_accept_rates"])


def test_a_face_is_found_cropped_upright_and_boxed_whatever_the_exif_orientation(client):
    pixels, landmarks = photo(FOUND, side=160, width=300, height=240)
    plain = faces(client, PEOPLE, encode(pixels))
    (face,) = plain["faces"]
    left, top, right, bottom = face["box"]
    middle = landmarks.mean(0)
    assert left < middle[0] < right
    assert top < middle[1] < bottom
    assert (plain["width"], plain["height"]) == (300, 240)
    # The same picture stored on its side, as a phone does.
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = faces(client, PEOPLE, encode(np.rot90(pixels, 1, (1, 2)), exif=exif))
    assert (turned["width"], turned["height"]) == (300, 240)
    assert turned["faces"][0]["box"] == pytest.approx(face["box"], abs=1)
    preview = Image.open(io.BytesIO(base64.b64decode(turned["preview"].partition(",")[2])))
    assert preview.size == (300, 240)


def test_a_person_is_enrolled_recognised_renamed_and_removed(client, output, strangers):
    before = faces(client, PEOPLE, person(strangers, 0), whole=1)
    assert before["faces"][0]["probabilities"] == [1.0]  # nobody but the unknown
    crop = crop_of(before["faces"][0])
    answer = change(client, "enroll", crop, name="  Ada   Lovelace ")
    assert answer.json()["people"] == {"Ada Lovelace": 1}
    again = faces(client, PEOPLE, person(strangers, 0), whole=1)
    assert again["names"] == ["Ada Lovelace"]
    assert again["faces"][0]["scores"][0] == pytest.approx(1, abs=1e-4)
    assert again["faces"][0]["probabilities"][0] > 0.9

    # It is a gallery of recognize.py, with the very embedding that enroll would have stored.
    path = output / NAME / "gallery.npz"
    recognizer = load_recognizer(output / NAME)
    gallery = load_gallery(path, recognizer.digest)
    stored = np.moveaxis(np.asarray(Image.open(io.BytesIO(crop)).convert("RGB")), -1, 0)
    assert gallery.people_with(recognizer.embeddings(stored[None])[0]) == ["Ada Lovelace"]
    assert "Ada Lovelace: 1 embedding" in succeed("recognize.py", "list", path).lines[0]

    assert change(client, "rename", name="Ada Lovelace", new="Zoë").json()["people"] == {"Zoë": 1}
    assert change(client, "enroll", crop, name="Bo").status_code == 400  # it is Zoë's
    assert change(client, "remove", name="Zoë").json()["people"] == {}


@pytest.mark.parametrize(
    ("what", "query", "message"),
    [
        ("enroll", {"name": "unknown"}, "for strangers"),
        ("enroll", {"name": "\u200b"}, "is not a name"),
        ("enroll", {"name": "x" * 201}, "1 to 200 characters"),
        ("enroll", {}, "1 to 200 characters"),
        ("rename", {"name": "Nobody", "new": "Bo"}, "nobody is enrolled yet"),
        ("remove", {"name": "Nobody"}, "nobody is enrolled yet"),
        ("threshold", {"value": "0.5"}, "nobody is enrolled yet"),
        ("threshold", {"value": "nan"}, "must be a number"),
        ("threshold", {"value": "x"}, "must be a number"),
        ("enroll", {"name": "Bo", "source": CLASSES}, "choose a gallery"),
        ("threshold", {"value": "2", "source": CLASSES}, "a probability, from 0 to 1"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(client, output, what, query, message):
    answer = change(client, what, encode(np.zeros((3, 32, 32), np.uint8)), **query)
    assert answer.status_code == 400
    assert re.search(message, answer.json()["error"])
    assert not (output / NAME / "gallery.npz").exists()


def test_a_crop_of_another_size_is_refused(client):
    answer = change(client, "enroll", encode(np.zeros((3, 20, 20), np.uint8)), name="Bo")
    assert answer.status_code == 400
    assert "drop the photo again" in answer.json()["error"]


def test_a_threshold_is_kept_for_recognize_too(client, output, strangers):
    crop = crop_of(faces(client, PEOPLE, person(strangers, 0), whole=1)["faces"][0])
    change(client, "enroll", crop, name="Ada")
    assert change(client, "threshold", value="0.625").json()["threshold"] == 0.625
    assert load_gallery(output / NAME / "gallery.npz").threshold == 0.625
    answer = change(client, "threshold", value="0.75", source=CLASSES).json()
    assert answer["threshold"] == 0.75
    assert answer["strangers"] == 60  # the calibration stays


def test_what_calibrate_measures_of_a_gallery_stays_with_it(client, output, strangers, tmp_path):
    crop = crop_of(faces(client, PEOPLE, person(strangers, 0), whole=1)["faces"][0])
    change(client, "enroll", crop, name="Ada")
    path = output / NAME / "gallery.npz"
    succeed(
        *("recognize.py", "calibrate", output / NAME, strangers, "--gallery", path, "--far", 0.1),
        *("--whole-image", "--device", "cpu", "--workers", 0, "--cache", tmp_path / "cache"),
        *("--output", tmp_path / "curves"),
    )
    answer = change(client, "rename", name="Ada", new="Bo").json()
    assert answer["calibrated"]
    assert answer["strangers"] == 36
    assert answer["false_accept_rates"][-1] == 1


def test_a_given_gallery_comes_first_and_is_created_by_the_first_enrollment(output, strangers, tmp_path):
    context = Context(output=output, gallery=tmp_path / "friends.npz")
    client = TestClient(create_app(context), base_url="http://127.0.0.1:8421")
    assert client.get("/api/recogniser/sources").json()["sources"][0]["name"] == "given"
    crop = crop_of(faces(client, "given", person(strangers, 0), whole=1)["faces"][0])
    change(client, "enroll", crop, name="Ada", source="given")
    assert load_gallery(tmp_path / "friends.npz").people == {"Ada": 1}


WRITER = """
import sys
import numpy as np
from pathlib import Path
from faces.recognition.gallery import empty_gallery, update_gallery

path, random = Path(sys.argv[1]), np.random.default_rng(0)
for number in range(100_000):
    new = empty_gallery("network", Path("checkpoint"))
    update_gallery(path, lambda gallery: gallery.enroll(f"person {number}", random.normal(size=(1, 64))), new)
    print(number, flush=True)
"""


def test_a_gallery_outlives_a_server_that_is_killed_while_it_enrolls(tmp_path):
    path, least = tmp_path / "g.npz", 0
    for acknowledged, patience in ((1, 0.02), (2, 0.05), (4, 0.11)):
        path.unlink(missing_ok=True)
        command = [sys.executable, "-c", WRITER, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            for _ in range(acknowledged):
                assert process.stdout.readline()
            time.sleep(patience)  # to be killed at any place of the next ones
            process.kill()
            reported = process.stdout.read().split()
        people = load_gallery(path).people
        least = max(least, len(people))
        assert len(people) >= acknowledged + len(reported)  # whatever was acknowledged is there
    assert least > 1


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that claims, and has, very many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(b"\0" * 10_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not a JPEG"),
        (b"no picture", "not a JPEG"),
        (bomb(30_000, 30_000), "too large"),
        (bomb(8_000, 8_000), "too large: more than 50,000,000 pixels"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded|not a JPEG"),
        (b"GIF89a" + b"\xff" * 50, "cannot be decoded|not a JPEG|too large"),
    ],
)
def test_what_is_no_photo_or_a_decompression_bomb_is_refused(client, body, message):
    answer = client.post("/api/recogniser/faces", params={"source": PEOPLE}, content=body)
    assert answer.status_code == 422
    assert re.search(message, answer.json()["error"])


def test_a_damaged_given_gallery_leaves_the_other_sources_usable(output, tmp_path):
    (tmp_path / "friends.npz").write_bytes(b"damaged")
    app = create_app(Context(output=output, gallery=tmp_path / "friends.npz"))
    client = TestClient(app, base_url="http://127.0.0.1:8421")
    sources = client.get("/api/recogniser/sources").json()["sources"]
    assert [source["name"] for source in sources] == [PEOPLE, CLASSES, "given"]
    assert sources[-1]["label"] == "people in friends.npz, which is damaged"
    assert client.get("/api/recogniser/source", params={"source": PEOPLE}).status_code == 200
    answer = client.get("/api/recogniser/source", params={"source": "given"})
    assert "is damaged, or not a gallery" in answer.json()["error"]


def test_a_damaged_gallery_is_named_and_kept(client, output):
    path = output / NAME / "gallery.npz"
    path.write_bytes(b"damaged")
    answer = client.get("/api/recogniser/source", params={"source": PEOPLE})
    assert answer.status_code == 400
    assert "is damaged, or not a gallery" in answer.json()["error"]
    assert path.read_bytes() == b"damaged"
