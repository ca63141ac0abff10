"""Detection on real photos with landmarks, if FACE_LAB_PHOTOS names their folder."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from faces.align import iou, square_around_box
from faces.detection import load_detector
from images.decode import decode_full

PHOTOS = os.environ.get("FACE_LAB_PHOTOS")
pytestmark = pytest.mark.skipif(not PHOTOS, reason="FACE_LAB_PHOTOS is not set")


def crop_box(box):
    square = square_around_box(box, 1.2)
    half = square.side / 2
    return [square.x - half, square.y - half, square.x + half, square.y + half]


def test_recall_and_false_detections():
    pytest.importorskip("cv2", reason="needs the extra 'photos'")
    with (Path(PHOTOS) / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1::40]
    detect = load_detector()
    detected = false = 0
    for name, *places in rows:
        points = np.array(places, float).reshape(-1, 2)
        truth = crop_box([*points.min(0), *points.max(0)])
        overlaps = [iou(crop_box(face.box), truth) for face in detect(decode_full(Path(PHOTOS) / name))]
        detected += max(overlaps, default=0) >= 0.4
        false += sum(overlap < 0.4 for overlap in overlaps)
    assert detected >= 0.85 * len(rows)
    assert false <= 0.1 * len(rows)
