"""Feature spaces: networks that map images to vectors, in which sets of images are compared.

Scores of different spaces do not compare, so each space has a name and a digest of its weights and its
preprocessing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.device import exact_float32
from engine.errors import UserError, missing_extra
from engine.progress import ProgressBar
from gan.metrics.random_network import PREPROCESSING, RandomNetwork, load_arrays

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
"""File name of the Inception weights that torch-fidelity releases."""

INCEPTION = "inception"
"""Name of the feature space of published FID scores."""

INCEPTION_SIDE = 299

CPU = torch.device("cpu")


@dataclass(frozen=True)
class FeatureSpace:
    """A network that maps images to feature vectors.

    Attributes:
        name: name of the network on the command line.
        digest: 8 hex digits that change with the weights and with the preprocessing.
        length: F, values of a feature vector.
        function: uint8 [B, 3, S, S] on `device` to float [B, F].
        device: device of the network.
    """

    name: str
    digest: str
    length: int
    function: Callable[[Tensor], Tensor] = field(repr=False)
    device: torch.device = CPU

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the features of a batch, independently for each image.

        Args:
            images: uint8 [B, 3, S, S] of any size S, on any device.

        Returns:
            float32 [B, F], on the space's device.

        Raises:
            ValueError: images or features have another dtype or shape.
            UserError: features are not finite.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected uint8 [B, 3, S, S], not {images.dtype} {list(images.shape)}")
        with torch.inference_mode(), exact_float32():
            features = self.function(images.to(self.device)).float()
        if features.shape != (len(images), self.length):
            raise ValueError(f"expected features [{len(images)}, {self.length}], not {list(features.shape)}")
        if not torch.isfinite(features).all():
            raise UserError(
                f"the features {self.name} (digest {self.digest}) are not all finite: the weights are damaged"
            )
        return features


def callable_space(
    name: str, digest: str, function: Callable[[Tensor], Tensor], *, device: torch.device = CPU
) -> FeatureSpace:
    """Create the feature space of any network.

    Args:
        name: name of the network.
        digest: hex digest of its weights and its preprocessing.
        function: uint8 [B, 3, S, S] on `device` to float [B, F], for any S; it must resize images,
            antialiased. It is called once on a black image to determine F.
        device: device of the function.
    """
    with torch.inference_mode():
        black = torch.zeros(1, 3, 96, 96, dtype=torch.uint8, device=device)
        length = function(black).shape[1]
    return FeatureSpace(name, digest, length, function, device)


def extract(
    space: FeatureSpace, images: NDArray[np.uint8], *, batch_size: int = 100, progress: str | None = None
) -> Tensor:
    """Compute the features of many images in batches.

    Args:
        space: the feature space.
        images: uint8 [N, 3, S, S]; may be mapped from a file.
        batch_size: images per pass; it changes the features by rounding only.
        progress: label of a progress bar; None for no bar.

    Returns:
        float32 [N, F], on the CPU.
    """
    features = torch.empty(len(images), space.length)
    with ProgressBar(total=len(images), desc=progress, unit=" images", disable=progress is None) as bar:
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size]))
            features[start : start + len(batch)] = space(batch)
            bar.update(len(batch))
    return features


def random_space(*, device: torch.device = CPU) -> FeatureSpace:
    """The fast space of `gan.metrics.random_network`: 128 features, no download.

    Args:
        device: device of the network.
    """
    network = RandomNetwork(load_arrays(), device)
    digest = hashlib.sha256(PREPROCESSING.encode())
    for name, array in sorted(network.arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    length = network.arrays["projection"].shape[1]
    return FeatureSpace("random", digest.hexdigest()[:8], length, network, device)


def inception_space(weights: Path | None = None, *, device: torch.device = CPU) -> FeatureSpace:
    """The 2,048 pooled features of the Inception v3 network of published FID scores (Heusel et al. 2017).

    Needs the package torch-fidelity and its weights; nothing is downloaded. The digest of the released
    weights is 6726825d. The network resizes images of up to 299 pixels as for published scores; larger ones
    are first reduced to that, antialiased.

    Args:
        weights: file of the weights; None for the checkpoint folder of torch hub.
        device: device of the network.

    Raises:
        UserError: the package is missing; the file is missing, damaged, or of another network.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
    except ImportError as missing:
        raise missing_extra("inception features need", "metrics", missing) from missing
    path = weights or Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"inception features need the weights {path}, which are missing: give another file, or download "
            f"{URL_INCEPTION_V3}"
        ) from None
    except OSError as error:
        raise UserError(f"the inception weights {path} cannot be read: {error}") from error
    try:
        # torch-fidelity would run code from a file. A file that loads with weights_only contains none.
        torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        with contextlib.redirect_stdout(io.StringIO()):
            network = FeatureExtractorInceptionV3("inception", ["2048"], io.BytesIO(content)).to(device)
    except Exception as error:  # torch raises nearly any exception on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged, or contains no Inception weights: {reason}") from error

    def function(images: Tensor) -> Tensor:
        if max(images.shape[2:]) > INCEPTION_SIDE:
            images = resize(images, INCEPTION_SIDE)
        (features,) = network(images)
        return features

    digest = hashlib.sha256(content).hexdigest()[:8]
    return FeatureSpace(INCEPTION, digest, 2048, function, device)


def resize(images: Tensor, side: int) -> Tensor:
    """Resize images, antialiased: uint8 [B, 3, S, S] to uint8 [B, 3, side, side]."""
    scaled = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
    return scaled.round().clamp(0, 255).byte()
