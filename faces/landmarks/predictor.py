"""Landmark prediction with a trained network.

    predictor = load_predictor("outputs/landmarks/0001-photos-64px")
    points = predictor.points(image, boxes)        # uint8 [3, H, W] and [N, 4] to float32 [N, K, 2]
    left, right = predictor.point_set.eye_centres(points[0])       # left as in the image

Boxes and points are in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from engine.device import choose_device, exact_float32
from engine.settings import Device
from faces.checkpoint import evaluation_weights, load_trained, report_network_mismatch
from faces.landmarks.geometry import INPUT_SCALE, bounding_boxes, crop_square, squares_around, to_pixels
from faces.landmarks.network import LandmarkNetwork
from faces.landmarks.point_set import PointSet, from_json
from faces.landmarks.settings import TASK_NAME
from images.tiles import to_float

BATCH_SIZE = 64
MAX_BOX_SIDE = 4
"""Squares are limited to this many times the longer side of the image."""

FOUR_SIDES = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)])
"""Unit shifts of a square (x, y, side) to the right, left, bottom and top."""


@dataclass(frozen=True)
class Predictor:
    """Predicts the landmarks of faces in images.

    Attributes:
        network: in evaluation mode.
        point_set: of the landmarks.
        image_size: side in pixels of the network's inputs.
        device: of the network.
        checkpoint: the network's file.
        step: training step of the checkpoint.
    """

    network: LandmarkNetwork
    point_set: PointSet
    image_size: int
    device: torch.device
    checkpoint: Path
    step: int

    def points(self, image: NDArray[np.uint8], boxes: ArrayLike, *, looks: int = 2) -> NDArray[np.float32]:
        """Predict the landmarks of the faces in these boxes.

        Detectors place a face's box differently. Therefore the network runs twice: on the box, and on the
        bounding box of the landmarks predicted there, which is what it was trained on.

        Args:
            image: uint8 [3, H, W], RGB.
            boxes: [N, 4], left, top, right, bottom in pixels; N may be 0. They may extend beyond the image.
            looks: number of passes of the network, 1 or more.

        Returns:
            float32 [N, K, 2], x and y in pixels of the image, in the order of `point_set.points`.

        Raises:
            ValueError: the image or the boxes have another shape or dtype, or a box is empty or not finite.
        """
        image, boxes = np.asarray(image), np.asarray(boxes, float)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"expected an image uint8 [3, H, W], not {image.dtype} {list(image.shape)}")
        if not boxes.size:
            return np.empty((0, self.point_set.count, 2), np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"expected boxes [N, 4], not {list(boxes.shape)}")
        if not np.isfinite(boxes).all() or (boxes[:, 2:] <= boxes[:, :2]).any():
            raise ValueError("a box is left, top, right, bottom with left < right and top < bottom")
        return self._look([image] * len(boxes), squares_around(boxes, INPUT_SCALE), looks)

    def points_of_crops(
        self, crops: NDArray[np.uint8], *, looks: int = 2, shift: float = 0.0
    ) -> NDArray[np.float32]:
        """Predict the landmarks of crops of one face each, as of generated images.

        Args:
            crops: uint8 [N, 3, S, S], RGB; the network looks at the whole of each first.
            looks: number of passes of the network, 1 or more; see `points`.
            shift: if not 0, the last look is the mean of five: at the square, and at the square moved by this
                share of its side to each of the four sides. Errors of the network that depend on where the
                pixels are cut average out.

        Returns:
            float32 [N, K, 2], x and y in pixels of the crops, in the order of `point_set.points`.
        """
        if not len(crops):
            return np.empty((0, self.point_set.count, 2), np.float32)
        side = crops.shape[-1]
        squares = np.tile((side / 2, side / 2, float(side)), (len(crops), 1))
        return self._look(list(crops), squares, looks, shift)

    def _look(
        self,
        images: Sequence[NDArray[np.uint8]],
        squares: NDArray[np.float64],
        looks: int,
        shift: float = 0.0,
    ) -> NDArray[np.float32]:
        """Landmarks in a square of each image, in pixels of the image."""
        sizes = np.array([(image.shape[2], image.shape[1]) for image in images])
        for look in range(looks):
            squares[:, 2] = squares[:, 2].clip(1, MAX_BOX_SIDE * sizes.max(1))
            squares[:, :2] = squares[:, :2].clip(0, sizes)
            points = to_pixels(self._predict(images, squares), squares)
            if shift and look == looks - 1:
                moved = [squares + shift * squares[:, 2:] * unit for unit in FOUR_SIDES]
                points = np.mean(
                    [points, *(to_pixels(self._predict(images, one), one) for one in moved)], axis=0
                )
            squares = squares_around(bounding_boxes(points), INPUT_SCALE)
        return points.astype(np.float32)

    @torch.inference_mode()
    def _predict(
        self, images: Sequence[NDArray[np.uint8]], squares: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Landmarks in a square of each image, as fractions of its side."""
        points = []
        for first in range(0, len(squares), BATCH_SIZE):
            batch = slice(first, first + BATCH_SIZE)
            crops = np.stack(
                [
                    crop_square(image, square, self.image_size)
                    for image, square in zip(images[batch], squares[batch], strict=True)
                ]
            )
            inputs = to_float(torch.from_numpy(crops).to(self.device))
            with exact_float32():
                outputs = self.network(inputs.contiguous(memory_format=torch.channels_last))
            points.append(outputs.cpu().numpy())
        return np.concatenate(points)


def load_predictor(path: str | Path, *, device: Device = "cpu") -> Predictor:
    """Load the trained network of a run or of a checkpoint.

    Args:
        path: of the run or the file; see `faces.checkpoint.load_trained`.
        device: for the network.

    Raises:
        UserError: the file or folder is missing, damaged, or not of a landmark network.
    """
    file, state = load_trained(path, TASK_NAME, "network of landmarks; train_landmarks.py makes one")
    with report_network_mismatch(file):
        values, settings = state["point_set"], state["settings"]
        points, size = from_json(values["name"], values), settings["image_size"]
        network = LandmarkNetwork(settings["backbone"], points.count, size)
        network.load_state_dict(evaluation_weights(state))
    chosen = choose_device(device)
    network = network.to(chosen, memory_format=torch.channels_last).eval()
    return Predictor(network, points, size, chosen, file, state["step"])
