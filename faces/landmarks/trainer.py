"""Trains a landmark network: its step, its scores, and a picture of its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.device import exact_float32
from engine.errors import UserError
from engine.settings import to_json
from faces.backbone import load_weights
from faces.landmarks.augment import JITTER, Augmentation, principal_colours, random_crops
from faces.landmarks.face_crops import FACE_CROP_SCALE, FaceCrops
from faces.landmarks.geometry import INPUT_SCALE
from faces.landmarks.losses import make_loss, normalised_mean_errors, point_loss
from faces.landmarks.network import LandmarkNetwork
from faces.landmarks.pictures import PREDICTED_COLOUR, TRUE_COLOUR, draw_points, enlarge
from faces.landmarks.point_set import PointSet
from faces.landmarks.settings import TASK_NAME, LandmarkSettings
from faces.loop import SupervisedTrainer
from faces.updater import Updater, decayed_parameters, make_optimizer, warmup_cosine_schedule
from images.sampler import batch_indices, step_seed
from images.tiles import GRID_COLUMNS, tile, to_uint8

FAILURE_THRESHOLD = 0.1
"""A prediction with a larger normalised mean error counts as a failure, as usual in the field."""
PICTURE_FACES, PICTURE_SCALE = 24, 3
STATISTICS_BATCHES = 10
SCORING_BATCH_SIZE = 128


class LandmarkTrainer(SupervisedTrainer):
    """Trains a landmark network.

    Args:
        settings: of the run.
        face_crops: training and held-out faces.
        point_set: of their landmarks.
        device: where to compute.
        pretrained: load the backbone's weights that the settings name; unnecessary if the network's are
            loaded later.

    Raises:
        UserError: the backbone, its weights or the layer to freeze do not exist or cannot be loaded.
    """

    ranked_by = "score/nme"
    score_label = "NME"

    def __init__(
        self,
        settings: LandmarkSettings,
        face_crops: FaceCrops,
        point_set: PointSet,
        device: torch.device,
        *,
        pretrained: bool,
    ) -> None:
        self.settings = settings
        self.point_set = point_set
        self._device = device
        self._random = torch.Generator(device)
        self._images = torch.from_numpy(np.array(face_crops.images))
        self._points = torch.from_numpy(face_crops.points)
        self._all_marked = not self._points.isnan().any()
        self._training_indices = face_crops.training_indices
        self._held_out_indices = face_crops.held_out_indices
        self._mirror = torch.from_numpy(point_set.mirror).to(device)
        self._colours = principal_colours(self._images[self._training_indices]).to(device)
        self._augmentation = Augmentation(
            settings.shift, settings.scale, settings.turn, settings.colour, settings.mirror
        )
        self._loss = make_loss(settings.loss, point_set, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = LandmarkNetwork(settings.backbone, point_set.count, settings.image_size)
            if pretrained and settings.weights != "none":
                load_weights(network.backbone, settings.weights)
            if settings.freeze:
                network.backbone.freeze(settings.freeze)
        network.start_at(self._mean_points())
        network = network.to(device, memory_format=torch.channels_last)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = make_optimizer(
            settings.optimizer, parameters, decayed_parameters(parameters), settings.weight_decay
        )
        rate = warmup_cosine_schedule(settings.learning_rate, settings.steps)
        self.updater = Updater(network, optimizer, rate, settings.ema_half_life)

    @property
    def outlook(self) -> str:
        """See `SupervisedTrainer`."""
        return (
            "what to expect: an NME (error over the eyes' distance) of 0.2 to 0.3 at the start (the mean "
            "face) and 0.06 after 1,500 steps on 2,800 faces with 68 points (docs/landmarks.md)"
        )

    def step(self) -> None:
        """Update the network on one batch of augmented crops."""
        seed, step, network = self.settings.seed, self.step_count, self.network
        rows = batch_indices(len(self._training_indices), self.settings.batch_size, step, seed)
        images, true = self._crops(self._training_indices[rows], self._augmentation, step_seed(seed, step))
        network.train()
        predicted = network(images)
        marked = self._marked(true)
        errors = normalised_mean_errors(predicted.detach(), true, self.point_set, marked)
        self.updater.update(self._loss(predicted, true, marked), len(rows), nme__training=errors.median())

    def scores(self) -> dict[str, float]:
        """Scores on the held-out people, on boxes with a detector's jitter, the same ones every time.

        - `score/nme`: normalised mean error, a fraction, averaged over the faces.
        - `score/failures`: share of faces for which it exceeds `FAILURE_THRESHOLD`.
        - `score/mse`: mean squared error of the coordinates, in fractions of the crop's side.
        """
        predicted, true = self._predictions(self._held_out_indices)
        marked = self._marked(true)
        errors = normalised_mean_errors(predicted, true, self.point_set, marked)
        return {
            "score/nme": float(errors.mean()),
            "score/failures": float((errors > FAILURE_THRESHOLD).float().mean()),
            "score/mse": float(point_loss(predicted, true, marked)),
        }

    def picture(self) -> NDArray[np.uint8]:
        """Held-out faces with true (green) and predicted (red) points, tiled: uint8 [3, H, W]."""
        rows = self._held_out_indices
        rows = rows[np.linspace(0, len(rows) - 1, min(PICTURE_FACES, len(rows))).astype(int)]
        images, true = self._crops(rows, JITTER, self.settings.seed)
        network = self._evaluation_network()
        with torch.no_grad(), exact_float32():
            predicted = network(images)
        side = PICTURE_SCALE * self.settings.image_size
        arrays = (to_uint8(images), side * true, side * predicted)
        faces = zip(*(array.cpu().numpy() for array in arrays), strict=True)
        pictures = [
            draw_points(enlarge(image, PICTURE_SCALE), [(target, TRUE_COLOUR), (output, PREDICTED_COLOUR)])
            for image, target, output in faces
        ]
        return tile(np.stack(pictures), GRID_COLUMNS)

    def networks(self) -> dict[str, nn.Module]:
        """The trained network by name."""
        return {"landmarks": self.network}

    def state(self) -> dict[str, Any]:
        """Everything needed to resume from here, and to predict without the run's folder."""
        return {
            "kind": TASK_NAME,
            "settings": to_json(self.settings),
            "point_set": self.point_set.to_json(),
            **self.updater.state(self._statistics_batches()),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned after the step `state["step"]`.

        Raises:
            UserError: it has another point set or other frozen layers.
        """
        saved, current = state["point_set"], self.point_set.to_json()
        if saved["points"] != current["points"]:
            raise UserError(
                f"the run was trained on {len(saved['points'])} points ({saved['name']}), and the data have "
                f"{self.point_set.count} now ({self.point_set.name}): restore them, or start a new run"
            )
        # The loss depends on the areas, mirror images on the pairs, and scores on the scale.
        if changed := [name for name in current if name != "name" and saved.get(name) != current[name]]:
            raise UserError(
                f"the run was trained with other {', '.join(changed)} of the point set "
                f"{self.point_set.name}: restore it, or start a new run"
            )
        if state["settings"]["freeze"] != self.settings.freeze:
            raise UserError("the run was trained with a different --freeze: omit it")
        self.updater.load_state(state)

    def _evaluation_network(self) -> nn.Module:
        return self.updater.evaluation_network(self._statistics_batches())

    def _predictions(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Predicted and true points of jittered crops of these faces: float32 [N, K, 2], on the CPU."""
        network = self._evaluation_network()
        predicted, true = [], []
        for batch, start in enumerate(range(0, len(rows), SCORING_BATCH_SIZE)):
            seed = step_seed(0, batch)  # independent of the run's seed, so that runs can be compared
            images, points = self._crops(rows[start : start + SCORING_BATCH_SIZE], JITTER, seed)
            with torch.no_grad(), exact_float32():
                predicted.append(network(images).cpu())
            true.append(points.cpu())
        return torch.cat(predicted), torch.cat(true)

    def _statistics_batches(self) -> Iterator[Tensor]:
        """Augmented training crops, always the same, for the batch-norm statistics of the average."""
        count = len(self._training_indices)
        for batch in range(STATISTICS_BATCHES):
            rows = batch_indices(count, min(self.settings.batch_size, count), batch, self.settings.seed)
            seed = step_seed(self.settings.seed, batch)
            yield self._crops(self._training_indices[rows], self._augmentation, seed)[0]

    def _crops(self, rows: NDArray[np.int64], augmentation: Augmentation, seed: int) -> tuple[Tensor, Tensor]:
        """Augmented crops of these faces, float32 [N, 3, S, S], and their points, float32 [N, K, 2]."""
        self._random.manual_seed(seed)
        indices = torch.from_numpy(rows)
        images, points = random_crops(
            self._images[indices].to(self._device),
            self._points[indices].to(self._device),
            self.settings.image_size,
            augmentation,
            self._random,
            self._mirror,
            self._colours,
        )
        return images.contiguous(memory_format=torch.channels_last), points

    def _marked(self, true: Tensor) -> Tensor | None:
        """Which points are marked, bool [B, K]; None if all points of all faces are."""
        return None if self._all_marked else ~true.isnan().any(-1)

    def _mean_points(self) -> Tensor:
        """Mean landmarks of the training faces, float32 [K, 2], in fractions of a crop without jitter."""
        points = self._points[self._training_indices]
        mean = points.mean(0) if self._all_marked else points.nanmean(0)
        return (mean - 0.5) * (FACE_CROP_SCALE / INPUT_SCALE) + 0.5
