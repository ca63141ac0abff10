"""What a training of landmarks does in a step, how it is scored, and what it shows."""

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
from faces.landmarks.settings import LandmarkSettings
from faces.updater import WEIGHT_KEYS, Updater, decayed_parameters, make_optimizer, warmup_cosine_schedule
from images.sampler import batch_indices, step_seed
from images.tiles import GRID_COLUMNS, tile, to_uint8

FAILED = 0.1
"""A face whose normalised mean error is above this counts as not found, as usual in the field."""
SHOWN, MAGNIFIED = 24, 3
STATISTICS_BATCHES = 10
SCORING_BATCH = 128
KIND = "landmarks"


class LandmarkLearner:
    """A `faces.loop.SupervisedTrainer` of landmarks.

    Args:
        settings: of the run.
        face_crops: the faces.
        points: what their landmarks are.
        device: where to compute.
        pretrained: begin with the weights that the settings name; a checkpoint of the run replaces them.

    Raises:
        UserError: the backbone, its weights or the layer to freeze are not to be had.
    """

    ranked_by = "score/nme"
    weights = WEIGHT_KEYS

    def __init__(
        self,
        settings: LandmarkSettings,
        face_crops: FaceCrops,
        points: PointSet,
        device: torch.device,
        *,
        pretrained: bool,
    ) -> None:
        self.settings = settings
        self.points = points
        self._face_crops, self._device = face_crops, device
        self._random = torch.Generator(device)
        self._images, self._places = (
            torch.from_numpy(np.array(face_crops.images)),
            torch.from_numpy(face_crops.points),
        )
        self._all_marked = not self._places.isnan().any()
        self._trained, self._held = face_crops.trained, face_crops.held_rows
        self._mirror = torch.from_numpy(points.mirror).to(device)
        self._colours = principal_colours(self._images[self._trained]).to(device)
        self._augmentation = Augmentation(
            settings.shift, settings.scale, settings.turn, settings.colour, settings.mirror
        )
        self._loss = make_loss(settings.loss, points, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = LandmarkNetwork(settings.backbone, points.count, settings.image_size)
            if pretrained and settings.weights != "none":
                load_weights(network.backbone, settings.weights)
            if settings.freeze:
                network.backbone.freeze(settings.freeze)
        network.start_at(self._mean_places())
        network = network.to(device, memory_format=torch.channels_last)
        learning = [weight for weight in network.parameters() if weight.requires_grad]
        optimizer = make_optimizer(
            settings.optimizer, learning, decayed_parameters(learning), settings.weight_decay
        )
        rate = warmup_cosine_schedule(settings.learning_rate, settings.steps)
        self._updater = Updater(network, optimizer, rate, settings.ema_half_life)

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self._updater.network

    @property
    def step_count(self) -> int:
        """Steps made so far."""
        return self._updater.step_count

    def step(self) -> None:
        """One update on one batch of crops."""
        seed, step, network = self.settings.seed, self.step_count, self._updater.network
        rows = batch_indices(len(self._trained), self.settings.batch_size, step, seed)
        images, true = self._crops(self._trained[rows], self._augmentation, step_seed(seed, step))
        network.train()
        predicted = network(images)
        marked = self._marked(true)
        errors = normalised_mean_errors(predicted.detach(), true, self.points, marked)
        self._updater.update(self._loss(predicted, true, marked), len(rows), nme__training=errors.median())

    def check_finite(self) -> None:
        """Raise `DivergedError` if a loss or gradient of any step so far was not finite."""
        self._updater.check_finite()

    def statistics(self) -> dict[str, float]:
        """Loss, gradient norm, learning rate, and the batches' median normalised error."""
        return self._updater.statistics()

    def scores(self) -> dict[str, float]:
        """On the people held out, on boxes jittered as a detector's are, always the same.

        - `score/nme`: mean over the faces of the normalised mean error, a fraction.
        - `score/failures`: share of faces for which that is above `FAILED`.
        - `score/mse`: mean squared error of the coordinates as fractions of the crop's sides, DD(0).
        """
        predicted, true = self._predictions(self._held)
        marked = self._marked(true)
        errors = normalised_mean_errors(predicted, true, self.points, marked)
        return {
            "score/nme": float(errors.mean()),
            "score/failures": float((errors > FAILED).float().mean()),
            "score/mse": float(point_loss(predicted, true, marked)),
        }

    def picture(self) -> NDArray[np.uint8]:
        """Faces of people held out with true (green) and predicted points, tiled: uint8 [3, H, W]."""
        rows = self._held[np.linspace(0, len(self._held) - 1, min(SHOWN, len(self._held))).astype(int)]
        images, true = self._crops(rows, JITTER, self.settings.seed)
        network = self._judged()
        with torch.no_grad(), exact_float32():
            predicted = network(images)
        side = MAGNIFIED * self.settings.image_size
        drawn = [
            draw_points(
                enlarge(image, MAGNIFIED), [(side * one, TRUE_COLOUR), (side * other, PREDICTED_COLOUR)]
            )
            for image, one, other in zip(
                to_uint8(images.cpu()).numpy(), true.cpu().numpy(), predicted.cpu().numpy(), strict=True
            )
        ]
        return tile(np.stack(drawn), GRID_COLUMNS)

    def networks(self) -> dict[str, nn.Module]:
        """The network that is trained."""
        return {"landmarks": self.network}

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must hold to go on from here, and to predict without the run's folder."""
        about = {"kind": KIND, "settings": to_json(self.settings)}
        named = {"point_set": {"name": self.points.name, **self.points.to_json()}}
        return about | named | self._updater.state(self._statistics_batches())

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, after the step that `state["step"]` tells.

        Raises:
            UserError: it is of other points, or of other frozen layers.
        """
        theirs, ours = state["point_set"], self.points.to_json()
        if theirs["points"] != ours["points"]:
            raise UserError(
                f"the run was trained on {len(theirs['points'])} points ({theirs['name']}), and the data "
                f"have {self.points.count} now ({self.points.name}): restore them, or begin a new run"
            )
        # Losses go by the areas, mirror images by the pairs, and scores by the scale.
        if others := [name for name, value in ours.items() if theirs.get(name) != value]:
            raise UserError(
                f"the run was trained with other {', '.join(others)} of the point set {self.points.name}: "
                "restore it, or begin a new run"
            )
        if state["settings"]["freeze"] != self.settings.freeze:
            raise UserError("the run was trained with another --freeze: leave that out")
        self._updater.load_state(state)

    def load_network(self, state: dict[str, Any]) -> None:
        """Take over the network of a checkpoint and nothing else."""
        self._updater.load_network(state)

    def _judged(self) -> nn.Module:
        return self._updater.evaluation_network(self._statistics_batches())

    def _predictions(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Predicted and true points of jittered crops of these faces: float32 [N, K, 2], on the CPU."""
        network = self._judged()
        predicted, true = [], []
        for batch, first in enumerate(range(0, len(rows), SCORING_BATCH)):
            seed = step_seed(0, batch)  # whatever the run's seed is, so that runs can be compared
            images, places = self._crops(rows[first : first + SCORING_BATCH], JITTER, seed)
            with torch.no_grad(), exact_float32():
                predicted.append(network(images).cpu())
            true.append(places.cpu())
        return torch.cat(predicted), torch.cat(true)

    def _statistics_batches(self) -> Iterator[Tensor]:
        """Crops as in training, always the same, by which the average's batch norms are set right."""
        size = min(self.settings.batch_size, len(self._trained))
        for batch in range(STATISTICS_BATCHES):
            rows = batch_indices(len(self._trained), size, batch, self.settings.seed)
            seed = step_seed(self.settings.seed, batch)
            yield self._crops(self._trained[rows], self._augmentation, seed)[0]

    def _crops(self, rows: NDArray[np.int64], augmentation: Augmentation, seed: int) -> tuple[Tensor, Tensor]:
        self._random.manual_seed(seed)
        chosen = torch.from_numpy(rows)
        face_crops, places = self._images[chosen].to(self._device), self._places[chosen].to(self._device)
        size = self.settings.image_size
        images, placed = random_crops(
            face_crops, places, size, augmentation, self._random, self._mirror, self._colours
        )
        return images.contiguous(memory_format=torch.channels_last), placed

    def _marked(self, true: Tensor) -> Tensor | None:
        """Which points are marked, bool [B, K]; None if all points of all faces are."""
        return None if self._all_marked else ~true.isnan().any(-1)

    def _mean_places(self) -> Tensor:
        """The mean of the trained faces' landmarks, float32 [K, 2], as fractions of an unvaried crop."""
        places = self._places[self._trained]
        mean = places.mean(0) if self._all_marked else places.nanmean(0)
        return (mean - 0.5) * (FACE_CROP_SCALE / INPUT_SCALE) + 0.5
