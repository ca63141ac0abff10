"""A trained classifier for use: class probabilities and embeddings of images.

    recognizer = load_recognizer("outputs/classifiers/0001-people-96px")
    probabilities = recognizer.probabilities(images)      # uint8 [N, 3, S, S] to float32 [N, C]
    embeddings = recognizer.embeddings(images)            # to float32 [N, D], each of length 1

Images are RGB and of any side S; they are scaled to the size of the training images.
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
from faces.checkpoint import evaluation_weights, load_trained, report_network_mismatch
from faces.recognition.augment import central_input
from faces.recognition.networks import Classifier, make_network
from faces.recognition.settings import TASK_NAME, ClassifierSettings, check, tile_side
from faces.settings import upgrade

BATCH_SIZE = 64
PREPROCESSING = "antialiased to the tile, center_crop cut out, 1"
"""Part of the digest; change it whenever the same image gives another embedding."""


@dataclass(frozen=True)
class Recognizer:
    """A trained classifier.

    Attributes:
        network: the network, in evaluation mode.
        classes: class names, in the order of the probabilities.
        settings: resolved settings it was trained with.
        device: device of the network.
        checkpoint: file it was loaded from.
        step: training step of that file.
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
        """Side in pixels of the images that the network was trained on; others are scaled to it."""
        return tile_side(self.settings)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities, float32 [N, C], of images, uint8 [N, 3, S, S]."""
        return self._in_batches(images, lambda features: self.network.logits(features).softmax(1))

    def embeddings(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings of length 1, float32 [N, D], of images, uint8 [N, 3, S, S].

        Raises:
            UserError: all features of an image are 0, as with dead activations.
        """
        embeddings = self._in_batches(images, F.normalize)
        if not embeddings.any(1).all():
            raise UserError(
                f"{self.checkpoint} gives no embedding of an image, as all its features are 0: use another "
                "network, such as one of --method arcface"
            )
        return embeddings

    def features(self, images: Tensor) -> Tensor:
        """Feature vectors, not normalised, float [B, D], of images, uint8 [B, 3, S, S] on the device."""
        if images.shape[2:] != (self.side, self.side):
            size = (self.side, self.side)
            images = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
            images = images.round().clamp(0, 255).byte()
        assert self.settings.image_size is not None, "settings are resolved"
        crops = central_input(images, self.settings.image_size)
        return self.network.features(crops.contiguous(memory_format=torch.channels_last))

    def _in_batches(
        self, images: NDArray[np.uint8], of_features: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        parts = []
        with torch.inference_mode(), exact_float32():
            for start in range(0, len(images), BATCH_SIZE):
                batch = torch.from_numpy(np.array(images[start : start + BATCH_SIZE])).to(self.device)
                parts.append(of_features(self.features(batch)).float().cpu().numpy())
        return np.concatenate(parts)


def load_recognizer(path: str | Path, *, device: Device = "cpu") -> Recognizer:
    """Load the trained network of a run of train_classifier.py, or of one of its checkpoints.

    Args:
        path: a run's folder or a file; see `faces.checkpoint.load_trained`.
        device: device of the network.

    Raises:
        UserError: the file or folder does not exist, is damaged, or contains something else.
    """
    file, state = load_trained(path, TASK_NAME, "classifier; train_classifier.py makes one")
    with report_network_mismatch(file):
        settings = from_json(upgrade(state["settings"]), ClassifierSettings)
        check(settings)
        classes = tuple(state["classes"])
        network = make_network(settings, len(classes))
        network.load_state_dict(evaluation_weights(state))
    digest = _digest(network, settings)
    torch_device = choose_device(device)
    network = network.to(torch_device, memory_format=torch.channels_last).eval()
    return Recognizer(network, classes, settings, torch_device, file, state["step"], digest)


def _digest(network: Classifier, settings: ClassifierSettings) -> str:
    digest = hashlib.sha256(f"{PREPROCESSING} {settings.method} {settings.image_size}".encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
