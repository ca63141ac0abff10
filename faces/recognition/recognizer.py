"""A trained classifier, ready to use: what is on an image, with which probability, and its vector.

    recognizer = load_recognizer("outputs/classifiers/0001-people-96px")
    probabilities = recognizer.probabilities(images)      # uint8 [N, 3, S, S] to float32 [N, C]
    vectors = recognizer.vectors(images)                  # to float32 [N, D], each of length 1

Images are RGB and of any side S; they are scaled to what the network learnt from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.device import choose_device, exact_float32
from engine.errors import UserError
from engine.settings import Device, from_json
from faces.checkpoint import load_trained, made_from, weights_in_use
from faces.recognition.augment import centre_crop
from faces.recognition.learner import KIND
from faces.recognition.networks import Classifier, make_network
from faces.recognition.settings import ClassifierSettings, check, tile_side
from gan.metrics.features import FeatureSpace, callable_space, resize

BATCH = 64
PREPROCESSING = "antialiased to the tile, middle cut out, 1"
"""Named in the digest: it changes whenever the same image comes to give another vector."""


@dataclass(frozen=True)
class Recognizer:
    """Tells what is on images.

    Attributes:
        network: in evaluation mode.
        classes: their names, in the order of the probabilities.
        settings: of its training, resolved.
        device: where it computes.
        checkpoint: the file it comes from.
        step: of the training at which that was written.
        digest: 16 hex digits that change with the weights and with the preprocessing.
    """

    network: Classifier
    classes: tuple[str, ...]
    settings: ClassifierSettings
    device: torch.device
    checkpoint: Path
    step: int
    digest: str

    @property
    def side(self) -> int:
        """Side in pixels at which images are best handed over; others are scaled to it."""
        return tile_side(self.settings)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of images, uint8 [N, 3, S, S], the classes' probabilities, float32 [N, C]."""
        return self._batched(images, lambda features: self.network.logits(features).softmax(1))

    def vectors(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of images, uint8 [N, 3, S, S], vectors of length 1, float32 [N, D]; alike faces have near ones.

        Raises:
            UserError: all features of an image are 0, as an activation that has died makes them.
        """
        vectors = self._batched(images, F.normalize)
        if not vectors.any(1).all():
            raise UserError(
                f"{self.checkpoint} makes no vector of an image, as all its features are 0: use another "
                "network, such as one of --method arcface"
            )
        return vectors

    def feature_space(self) -> FeatureSpace:
        """The space of its features, before their lengths are divided out, to compare sets of images in."""
        return callable_space("classifier", self.digest[:8], self._features, device=self.device)

    def _batched(
        self, images: NDArray[np.uint8], of_features: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        parts = []
        with torch.inference_mode(), exact_float32():
            for first in range(0, len(images), BATCH):
                batch = torch.from_numpy(np.array(images[first : first + BATCH])).to(self.device)
                parts.append(of_features(self._features(batch)).float().cpu().numpy())
        return np.concatenate(parts)

    def _features(self, images: Tensor) -> Tensor:
        """Of uint8 [B, 3, S, S] on the device float [B, D]."""
        if images.shape[2:] != (self.side, self.side):
            images = resize(images, self.side)
        assert self.settings.image_size is not None, "settings are resolved"
        crops = centre_crop(images, self.settings.image_size)
        return self.network.features(crops.contiguous(memory_format=torch.channels_last))


def load_recognizer(path: str | Path, *, device: Device = "cpu") -> Recognizer:
    """The trained network of a run of train_classifier.py, or of one of its checkpoints.

    Args:
        path: of the run or of the file; see `faces.checkpoint.load_trained`.
        device: where to compute.

    Raises:
        UserError: there is no such file or folder, it is damaged, or it holds something else.
    """
    file, state = load_trained(path, KIND, "classifier; train_classifier.py makes one")
    with made_from(file):
        settings = from_json(state["settings"], ClassifierSettings)
        check(settings)
        classes = tuple(state["classes"])
        network = make_network(settings, len(classes))
        network.load_state_dict(weights_in_use(state))
    chosen = choose_device(device)
    digest = _digest(network, settings)
    network = network.to(chosen, memory_format=torch.channels_last).eval()
    return Recognizer(network, classes, settings, chosen, file, state["step"], digest)


def _digest(network: Classifier, settings: ClassifierSettings) -> str:
    digest = hashlib.sha256(f"{PREPROCESSING} {settings.method} {settings.image_size}".encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
