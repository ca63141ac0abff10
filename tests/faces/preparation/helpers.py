"""Helpers of the preparation tests."""

import csv
import hashlib
import sys
from collections import Counter

import numpy as np
import pytest

from engine.png import to_pillow
from faces.preparation import PrepareArguments, prepare

SOURCES = ["plain.jpg", "with space.jpg", "日本/ü é.png", "one/same.jpg", "two/same.jpg", "two/same.png"]


def contents(folder):
    """Digest and modification time of each file, by name."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def output_files(out):
    """Bytes of each crop and of the manifest, by name."""
    files = [*out.glob("faces/**/*.*"), *out.glob("left_out/**/*.*"), out / "manifest.csv"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def read_manifest(out):
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def verdicts(out):
    return Counter(row["verdict"] for row in read_manifest(out))


def prepare_here(photos, out, **changes):
    return prepare(PrepareArguments(photos, out, workers=0, **changes))


def save_photos(tmp_path, *photos):
    """Save images, uint8 [3, H, W], as 0.png, 1.png ... in a new folder."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, image in enumerate(photos):
        to_pillow(image).save(folder / f"{number}.png")
    return folder


def save_video(path, frames):
    """Save frames, uint8 [3, H, W], as a video of 5 frames per second."""
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'photos'")
    path.parent.mkdir(exist_ok=True)
    size = frames[0].shape[:0:-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, size)
    for frame in frames:
        writer.write(np.ascontiguousarray(np.moveaxis(frame[::-1], 0, -1)))
    writer.release()


class FarPredictor:
    """A predictor whose landmarks are far from the faces."""

    def points(self, image, boxes):
        return np.full((len(boxes), 29, 2), 1e5, np.float32)


def replace_predictor(monkeypatch, predictor):
    """Let `load_predictor` return this; the list of paths that it is called with."""
    paths = []
    module = type(sys)("faces.landmarks.predictor")
    module.load_predictor = lambda path: paths.append(path) or predictor
    monkeypatch.setitem(sys.modules, "faces.landmarks.predictor", module)
    return paths


def crops(out):
    """Files in the folders below a folder, relative to it, sorted."""
    return sorted(path.relative_to(out).as_posix() for path in out.glob("*/*") if path.is_file())
