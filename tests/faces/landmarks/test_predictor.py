"""A trained network on photos: where its points come out, whatever the box and the photo."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import UserError
from engine.runs import best_path, checkpoints
from faces.landmarks.annotations import read_annotations
from faces.landmarks.augment import Augmentation, crops
from faces.landmarks.crops import ENLARGE, boxes_of, cut, squares_of, to_fractions
from faces.landmarks.learner import LandmarkLearner
from faces.landmarks.point_set import point_set
from faces.landmarks.predictor import Predictor, load_predictor
from faces.landmarks.tiles import TILE, tile_size
from images.decode import decode_full
from images.tiles import to_uint8


@pytest.fixture(scope="module")
def predictor(landmark_run) -> Predictor:
    return load_predictor(landmark_run)


@pytest.fixture(scope="module")
def faces(drawn_faces) -> list[tuple[np.ndarray, np.ndarray]]:
    """Drawn faces the network has been trained on or not: images and their points."""
    found = read_annotations(drawn_faces)
    return [
        (decode_full(drawn_faces / name), points)
        for name, points in zip(found.files[:12], found.points[:12], strict=True)
    ]


def errors(predictor: Predictor, found: np.ndarray, true: np.ndarray) -> float:
    one, other = predictor.point_set.scale_numbers
    return float(np.linalg.norm(found - true, axis=1).mean() / np.linalg.norm(true[one] - true[other]))


def test_points_of_a_face_in_pixels(predictor, faces):
    assert predictor.point_set == point_set("drawn-29")
    assert (predictor.image_size, predictor.step) == (32, 150)
    found = [predictor.points(image, [boxes_of(true)]) for image, true in faces]
    assert found[0].shape == (1, 29, 2)
    assert found[0].dtype == np.float32
    off = [errors(predictor, one[0], true) for one, (_, true) in zip(found, faces, strict=True)]
    assert np.mean(off) < 0.10
    left, right = predictor.point_set.eye_centres(found[0][0])
    true_left, true_right = predictor.point_set.eye_centres(faces[0][1])
    assert np.linalg.norm(left - true_left) < 4
    assert np.linalg.norm(right - true_right) < 4


def test_wherever_the_face_is_and_however_large(predictor, faces):
    image, true = faces[0]
    here = predictor.points(image, [boxes_of(true)])[0]
    photo = np.full((3, 400, 300), 90, np.uint8)
    large = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((192, 192), Image.Resampling.BICUBIC))
    photo[:, 150:342, 60:252] = large.transpose(2, 0, 1)
    offset = np.array([60, 150])
    there = predictor.points(photo, [boxes_of(3 * true + offset)])[0]
    assert errors(predictor, (there - offset) / 3, here) < 0.03


def test_many_faces_in_one_photo_are_found_each_by_itself(predictor, faces):
    photo = np.concatenate([image for image, _ in faces[:3]], axis=2)
    boxes = [boxes_of(true + np.array([64 * number, 0])) for number, (_, true) in enumerate(faces[:3])]
    together = predictor.points(photo, boxes)
    for number, box in enumerate(boxes):
        assert np.abs(predictor.points(photo, [box])[0] - together[number]).max() < 0.01
    assert predictor.points(photo, []).shape == (0, 29, 2)
    assert predictor.points(photo, np.empty((0, 4))).shape == (0, 29, 2)


def test_a_second_look_makes_up_for_a_box_that_is_off(predictor, faces):
    once, twice = [], []
    for image, true in faces:
        left, top, right, bottom = boxes_of(true)
        up = 0.18 * (bottom - top)
        box = (left, top - up, right, bottom - up)
        once.append(errors(predictor, predictor.points(image, [box], looks=1)[0], true))
        twice.append(errors(predictor, predictor.points(image, [box])[0], true))
    assert np.mean(twice) < np.mean(once)


def test_boxes_over_the_edge_and_huge_ones_do_no_harm(predictor, faces):
    image, _ = faces[0]
    boxes = [(-30, -30, 20, 20), (50, 50, 90, 90), (-1e7, -1e7, 1e7, 1e7), (5, 5, 5.1, 5.1)]
    found = predictor.points(image, boxes)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 1000


def test_wrong_arguments_are_said(predictor, faces):
    image, _ = faces[0]
    box = [[0, 0, 10, 10]]
    for wrong, boxes in [
        (image.transpose(1, 2, 0), box),
        (image.astype(float), box),
        (image, [0, 0, 10, 10]),
        (image, [[0, 0, np.nan, 10]]),
        (image, [[10, 0, 0, 10]]),
    ]:
        with pytest.raises(ValueError, match=r"expected|a box is"):
            predictor.points(wrong, boxes)


def test_the_best_checkpoint_of_a_run_or_a_file_alone(landmark_run, tmp_path):
    assert load_predictor(landmark_run).checkpoint == best_path(landmark_run)
    alone = tmp_path / "mine.pt"
    shutil.copy(checkpoints(landmark_run)[-1], alone)
    assert load_predictor(alone).point_set.count == 29


def test_it_predicts_what_was_scored(predictor, landmark_run):
    """The network in the file is the averaged one, with the batch-norm statistics it was scored with."""
    state = torch.load(checkpoints(landmark_run)[-1], weights_only=True)
    loaded = predictor.network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in state["average"].items())
    assert LandmarkLearner.ranked_by == "score/nme"


def test_what_is_no_landmark_network_is_one_line(tiny_run, landmark_run, tmp_path):
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
        with pytest.raises(UserError, match=r"no '|another network"):
            load_predictor(tmp_path / "odd.pt")


def test_the_crop_it_sees_is_what_it_was_trained_on(faces):
    size = 32
    for image, true in faces[:4]:
        box = boxes_of(true)
        square = squares_of(box, TILE)
        tile = cut(image, square, tile_size(size))
        inside = torch.from_numpy(to_fractions(true[None], square[None])).float()
        images, _ = crops(torch.from_numpy(tile)[None], inside, size, Augmentation(), torch.Generator())
        trained_on = to_uint8(images)[0].numpy().astype(int)
        off = [
            np.abs(trained_on - cut(image, squares_of(box, enlarge), size)).mean()
            for enlarge in (ENLARGE, 0.95 * ENLARGE)
        ]
        assert off[0] < off[1] / 2
