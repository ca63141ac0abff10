"""Feature spaces: networks that turn images into vectors, in which sets of images are compared.

A score in one space says nothing beside a score in another, so each has a name and a digest of all that
its vectors follow from: the weights and the preprocessing.
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
from tqdm import tqdm

from engine.device import exact_float32
from engine.errors import UserError, missing_extra
from gan.metrics.random_network import PREPROCESSING, RandomNetwork, load_arrays

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
"""The file of the Inception network's weights, as torch-fidelity releases it."""

INCEPTION_SIDE = 299

CPU = torch.device("cpu")


@dataclass(frozen=True)
class FeatureSpace:
    """A network that turns images into vectors.

    Attributes:
        name: of the network, as the user asks for it.
        digest: 8 hex digits that change with the weights and with the preprocessing.
        length: F, values in a vector.
        function: uint8 [B, 3, S, S] on `device` to float [B, F].
        device: where it is computed.
    """

    name: str
    digest: str
    length: int
    function: Callable[[Tensor], Tensor] = field(repr=False)
    device: torch.device = CPU

    def __call__(self, images: Tensor) -> Tensor:
        """The features of a batch, each image's by itself.

        Args:
            images: uint8 [B, 3, S, S] of any side S, on any device.

        Returns:
            float32 [B, F], on the space's device.

        Raises:
            ValueError: images of another kind, or features of another shape.
            UserError: features that are not finite, of which no score can be taken.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected uint8 [B, 3, S, S], not {images.dtype} {list(images.shape)}")
        with torch.inference_mode(), exact_float32():
            features = self.function(images.to(self.device)).float()
        if features.shape != (len(images), self.length):
            raise ValueError(f"expected features [{len(images)}, {self.length}], not {list(features.shape)}")
        if not torch.isfinite(features).all():
            raise UserError(
                f"the features {self.name} (digest {self.digest}) are not all finite: its weights are damaged"
            )
        return features


def callable_space(
    name: str, digest: str, function: Callable[[Tensor], Tensor], *, device: torch.device = CPU
) -> FeatureSpace:
    """The space of any network.

    Args:
        name: of the network.
        digest: hex, of its weights and its preprocessing.
        function: uint8 [B, 3, S, S] on `device` to float [B, F], whatever S is; it resizes by itself,
            antialiased. It is called once at once, on a black image, to learn F.
        device: where it computes.
    """
    with torch.inference_mode():
        black = torch.zeros(1, 3, 96, 96, dtype=torch.uint8, device=device)
        length = function(black).shape[1]
    return FeatureSpace(name, digest, length, function, device)


def extract(
    space: FeatureSpace, images: NDArray[np.uint8], *, batch_size: int = 100, progress: str | None = None
) -> Tensor:
    """The features of many images.

    Args:
        space: whose features.
        images: uint8 [N, 3, S, S], also mapped from a file.
        batch_size: images in a pass. The features depend on it by no more than rounding.
        progress: what to write beside a progress bar; none without it.

    Returns:
        float32 [N, F], on the CPU.
    """
    features = torch.empty(len(images), space.length)
    with tqdm(total=len(images), desc=progress, unit=" images", disable=progress is None) as bar:
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size]))
            features[start : start + len(batch)] = space(batch)
            bar.update(len(batch))
    return features


def random_space(*, device: torch.device = CPU) -> FeatureSpace:
    """The space of `gan.metrics.random_network`: 128 features, which need no download and take little time.

    Args:
        device: where to compute.
    """
    network = RandomNetwork(load_arrays(), device)
    digest = hashlib.sha256(PREPROCESSING.encode())
    for name, array in sorted(network.arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    length = network.arrays["projection"].shape[1]
    return FeatureSpace("random", digest.hexdigest()[:8], length, network, device)


def inception_space(weights: Path | None = None, *, device: torch.device = CPU) -> FeatureSpace:
    """The 2,048 pooled features of the Inception v3 network of published FID scores (Heusel et al. 2017).

    By torch-fidelity, of which this needs the package and the weights; nothing is downloaded. The digest
    of the released weights is 6726825d. Images of up to 299 pixels are scaled by the network as
    published scores have it, larger ones are first reduced to that, antialiased.

    Args:
        weights: file of the network's weights; where none is given, torch hub's folder of checkpoints is
            looked into.
        device: where to compute.

    Raises:
        UserError: the package is not installed; the file is missing, damaged, or of another network.
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
            f"inception features need the weights {path}, which are not there: give another file, or fetch "
            f"{URL_INCEPTION_V3} (torch-fidelity itself does, where there is a network)"
        ) from None
    except OSError as error:
        raise UserError(f"the inception weights {path} cannot be read: {error}") from error
    try:
        # torch-fidelity would run code that a file holds. What loads here as tensors alone holds none.
        torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        with contextlib.redirect_stdout(io.StringIO()):
            network = FeatureExtractorInceptionV3("inception", ["2048"], io.BytesIO(content)).to(device)
    except Exception as error:  # of torch's readers, at a damaged file, nearly any that there is
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged, or holds no Inception weights: {reason}") from error

    def function(images: Tensor) -> Tensor:
        if max(images.shape[2:]) > INCEPTION_SIDE:
            images = resize(images, INCEPTION_SIDE)
        (features,) = network(images)
        return features

    digest = hashlib.sha256(content).hexdigest()[:8]
    return FeatureSpace("inception", digest, 2048, function, device)


def resize(images: Tensor, side: int) -> Tensor:
    """Images of that side, antialiased: of uint8 [B, 3, S, S] uint8 [B, 3, side, side]."""
    scaled = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
    return scaled.round().clamp(0, 255).byte()
