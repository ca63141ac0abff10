"""Prediction with a trained network, for various boxes and images."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import UserError
from engine.runs import best_path, checkpoints
from faces.align import central_box
from faces.landmarks.annotations import read_annotations
from faces.landmarks.augment import Augmentation, random_crops
from faces.landmarks.face_crops import FACE_CROP_SCALE, face_crop_size
from faces.landmarks.geometry import INPUT_SCALE, bounding_boxes, crop_square, squares_around, to_fractions
from faces.landmarks.point_set import load_point_set
from faces.landmarks.predictor import Predictor, load_predictor
from faces.landmarks.trainer import LandmarkTrainer
from images.decode import decode_full
from images.tiles import to_uint8


@pytest.fixture(scope="module")
def predictor(landmark_run) -> Predictor:
    return load_predictor(landmark_run)


@pytest.fixture(scope="module")
def faces(drawn_faces) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and points of drawn faces, for training or held out."""
    annotations = read_annotations(drawn_faces)
    return [
        (decode_full(drawn_faces / name), points)
        for name, points in zip(annotations.files[:12], annotations.points[:12], strict=True)
    ]


def mean_error(predictor: Predictor, predicted: np.ndarray, true: np.ndarray) -> float:
    first, second = predictor.point_set.scale_indices
    return float(np.linalg.norm(predicted - true, axis=1).mean() / np.linalg.norm(true[first] - true[second]))


def test_points_of_a_face_in_pixels(predictor, faces):
    assert predictor.point_set == load_point_set("drawn-29")
    assert (predictor.image_size, predictor.step) == (32, 150)
    predicted = [predictor.points(image, [bounding_boxes(true)]) for image, true in faces]
    assert predicted[0].shape == (1, 29, 2)
    assert predicted[0].dtype == np.float32
    off = [mean_error(predictor, points[0], true) for points, (_, true) in zip(predicted, faces, strict=True)]
    assert np.mean(off) < 0.10
    left, right = predictor.point_set.eye_centres(predicted[0][0])
    true_left, true_right = predictor.point_set.eye_centres(faces[0][1])
    assert np.linalg.norm(left - true_left) < 4
    assert np.linalg.norm(right - true_right) < 4


def test_position_and_size_of_the_face(predictor, faces):
    image, true = faces[0]
    here = predictor.points(image, [bounding_boxes(true)])[0]
    photo = np.full((3, 400, 300), 90, np.uint8)
    large = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((192, 192), Image.Resampling.BICUBIC))
    photo[:, 150:342, 60:252] = large.transpose(2, 0, 1)
    offset = np.array([60, 150])
    there = predictor.points(photo, [bounding_boxes(3 * true + offset)])[0]
    assert mean_error(predictor, (there - offset) / 3, here) < 0.03


def test_faces_in_one_image_are_independent(predictor, faces):
    photo = np.concatenate([image for image, _ in faces[:3]], axis=2)
    boxes = [bounding_boxes(true + np.array([64 * number, 0])) for number, (_, true) in enumerate(faces[:3])]
    together = predictor.points(photo, boxes)
    for number, box in enumerate(boxes):
        assert np.abs(predictor.points(photo, [box])[0] - together[number]).max() < 0.01
    assert predictor.points(photo, []).shape == (0, 29, 2)
    assert predictor.points(photo, np.empty((0, 4))).shape == (0, 29, 2)


def test_crops_of_one_face_each(predictor, faces):
    crops = np.stack([image for image, _ in faces[:3]])
    together = predictor.points_of_crops(crops)
    for crop, points in zip(crops, together, strict=True):
        whole = central_box(crop, crop.shape[1] / INPUT_SCALE)
        assert np.abs(predictor.points(crop, [whole])[0] - points).max() < 0.01
    assert predictor.points_of_crops(crops[:0]).shape == (0, 29, 2)


def test_looks_from_five_places_are_steadier(predictor, faces):
    crops = np.stack([image for image, _ in faces])
    moved = np.roll(crops, 1, axis=3)
    errors = {
        shift: np.abs(
            predictor.points_of_crops(moved, shift=shift)
            - predictor.points_of_crops(crops, shift=shift)
            - (1, 0)
        ).mean()
        for shift in (0.0, 0.03)
    }
    assert errors[0.03] < 0.9 * errors[0.0]


def test_second_look_corrects_a_shifted_box(predictor, faces):
    once, twice = [], []
    for image, true in faces:
        left, top, right, bottom = bounding_boxes(true)
        up = 0.18 * (bottom - top)
        box = (left, top - up, right, bottom - up)
        once.append(mean_error(predictor, predictor.points(image, [box], looks=1)[0], true))
        twice.append(mean_error(predictor, predictor.points(image, [box])[0], true))
    assert np.mean(twice) < np.mean(once)


def test_boxes_beyond_the_image_and_huge_boxes(predictor, faces):
    image, _ = faces[0]
    boxes = [(-30, -30, 20, 20), (50, 50, 90, 90), (-1e7, -1e7, 1e7, 1e7), (5, 5, 5.1, 5.1)]
    predicted = predictor.points(image, boxes)
    assert np.isfinite(predicted).all()
    assert np.abs(predicted).max() < 1000


def test_invalid_arguments(predictor, faces):
    image, _ = faces[0]
    box = [[0, 0, 10, 10]]
    for invalid, boxes in [
        (image.transpose(1, 2, 0), box),
        (image.astype(float), box),
        (image, [0, 0, 10, 10]),
        (image, [[0, 0, np.nan, 10]]),
        (image, [[10, 0, 0, 10]]),
    ]:
        with pytest.raises(ValueError, match=r"expected|a box is"):
            predictor.points(invalid, boxes)


def test_best_checkpoint_of_a_run_or_single_file(landmark_run, tmp_path):
    assert load_predictor(landmark_run).checkpoint == best_path(landmark_run)
    alone = tmp_path / "mine.pt"
    shutil.copy(checkpoints(landmark_run)[-1], alone)
    assert load_predictor(alone).point_set.count == 29


def test_averaged_weights_are_loaded(predictor, landmark_run):
    """The averaged network, with the batch-norm statistics that it was scored with."""
    state = torch.load(checkpoints(landmark_run)[-1], weights_only=True)
    loaded = predictor.network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in state["average"].items())
    assert LandmarkTrainer.ranked_by == "score/nme"


def test_other_checkpoints_are_one_line(tiny_run, landmark_run, tmp_path):
    with pytest.raises(UserError, match="contains no network of landmarks"):
        load_predictor(checkpoints(tiny_run)[-1])
    with pytest.raises(UserError, match="no checkpoint"):
        load_predictor(tmp_path)
    with pytest.raises(UserError, match="cannot be opened"):
        load_predictor(tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(UserError, match="damaged"):
        load_predictor(tmp_path / "text.pt")
    state = torch.load(checkpoints(landmark_run)[-1], weights_only=True)
    for change in ({"point_set": {"name": "none"}}, {"settings": {}}, {"network": {}, "average": {}}):
        torch.save(state | change, tmp_path / "odd.pt")
        with pytest.raises(UserError, match=r"no '|do not match"):
            load_predictor(tmp_path / "odd.pt")


def test_inputs_match_those_of_training(faces):
    size = 32
    for image, true in faces[:4]:
        box = bounding_boxes(true)
        square = squares_around(box, FACE_CROP_SCALE)
        face_crop = crop_square(image, square, face_crop_size(size))
        inside = torch.from_numpy(to_fractions(true[None], square[None])).float()
        images, _ = random_crops(
            torch.from_numpy(face_crop)[None], inside, size, Augmentation(), torch.Generator()
        )
        trained_on = to_uint8(images)[0].numpy().astype(int)
        off = [
            np.abs(trained_on - crop_square(image, squares_around(box, enlarge), size)).mean()
            for enlarge in (INPUT_SCALE, 0.95 * INPUT_SCALE)
        ]
        assert off[0] < off[1] / 2
