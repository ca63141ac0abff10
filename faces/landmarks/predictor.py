"""A trained network of landmarks, ready to use on photos.

    predictor = load_predictor("outputs/landmarks/0001-photos-64px")
    points = predictor.points(image, boxes)        # uint8 [3, H, W] and [N, 4] to float32 [N, K, 2]
    left, right = predictor.point_set.eye_centres(points[0])       # left as the picture shows it

Boxes and points are in pixels of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from engine.device import choose_device, exact_float32
from engine.settings import Device
from faces.checkpoint import evaluation_weights, load_trained, report_network_mismatch
from faces.landmarks.crops import ENLARGE, boxes_of, cut, squares_of, to_pixels
from faces.landmarks.learner import KIND
from faces.landmarks.network import LandmarkNetwork
from faces.landmarks.point_set import PointSet, from_json
from images.tiles import to_float

BATCH = 64
LARGEST = 4
"""A box is taken to be no larger than so many times the longer side of its image."""


@dataclass(frozen=True)
class Predictor:
    """Finds the landmarks of faces in photos.

    Attributes:
        network: in evaluation mode.
        point_set: what its landmarks are, and which of them are the eyes.
        image_size: side in pixels of the crops that it looks at.
        device: where it computes.
        checkpoint: the file it comes from.
        step: the step of the training at which that was written.
    """

    network: LandmarkNetwork
    point_set: PointSet
    image_size: int
    device: torch.device
    checkpoint: Path
    step: int

    def points(self, image: NDArray[np.uint8], boxes: ArrayLike, *, looks: int = 2) -> NDArray[np.float32]:
        """The landmarks of the faces in these boxes.

        Detectors differ in what they call a face's box. So the network looks twice: at the box, and
        again at the box around the landmarks that it has found there, as it was trained to.

        Args:
            image: uint8 [3, H, W], RGB.
            boxes: [N, 4], left, top, right, bottom in pixels; N may be 0. They may reach out of the image.
            looks: how often it looks, 1 or more.

        Returns:
            float32 [N, K, 2], x and y in pixels of the image, in the order of `point_set.points`.

        Raises:
            ValueError: an image or boxes of another kind, or a box that is not finite or has no extent.
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
        squares = squares_of(boxes, ENLARGE)
        for _ in range(looks):
            squares[:, 2] = squares[:, 2].clip(1, LARGEST * max(image.shape[1:]))
            squares[:, :2] = squares[:, :2].clip(0, (image.shape[2], image.shape[1]))
            found = to_pixels(self._look(image, squares), squares)
            squares = squares_of(boxes_of(found), ENLARGE)
        return found.astype(np.float32)

    @torch.inference_mode()
    def _look(self, image: NDArray[np.uint8], squares: NDArray[np.float64]) -> NDArray[np.float32]:
        """What the network finds in these squares, as fractions of their sides."""
        found = []
        for first in range(0, len(squares), BATCH):
            part = squares[first : first + BATCH]
            crops = np.stack([cut(image, square, self.image_size) for square in part])
            batch = to_float(torch.from_numpy(crops).to(self.device))
            with exact_float32():
                found.append(self.network(batch.contiguous(memory_format=torch.channels_last)).cpu().numpy())
        return np.concatenate(found)


def load_predictor(path: str | Path, *, device: Device = "cpu") -> Predictor:
    """The trained network of a run or of a checkpoint.

    Args:
        path: of the run or of the file; see `faces.checkpoint.load_trained`.
        device: where to compute.

    Raises:
        UserError: there is no such file or folder, it is damaged, or it holds something else.
    """
    file, state = load_trained(path, KIND, "network of landmarks; train_landmarks.py makes one")
    with report_network_mismatch(file):
        values, settings = state["point_set"], state["settings"]
        points, size = from_json(values["name"], values), settings["image_size"]
        network = LandmarkNetwork(settings["backbone"], points.count, size)
        network.load_state_dict(evaluation_weights(state))
    chosen = choose_device(device)
    network = network.to(chosen, memory_format=torch.channels_last).eval()
    return Predictor(network, points, size, chosen, file, state["step"])
