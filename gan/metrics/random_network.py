"""A small convolutional network with fixed random weights, whose features describe images.

Random features distinguish sets of images without training, and respond to what a network trained on photos
of objects may ignore (Naeem et al. 2020). Four layers of random orthogonal filters each halve the image. The
descriptors are coarse: the colours of a 4 x 4 grid, the mean and standard deviation of each channel of the
first two layers, the third layer in a 2 x 2 grid, and the mean of the fourth. They are strongly correlated,
so they are whitened: projected to the 128 strongest principal components of drawn faces, with variance 1.

The weights are loaded from a file, so scores compare between versions of torch.
experiments/random_features.py made it from drawn faces only.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SIDE = 96
"""Images are resized to this side, in pixels."""

PREPROCESSING = "bilinear, antialiased, 96 px, [-1, 1]; reflected edges, stride 2, ReLU; version 1"
"""Part of the digest of the feature space."""

LAYERS = 4


class RandomNetwork:
    """The network.

    Attributes:
        arrays: for each layer i from 0, `filters_i`, float16 [C', C, K, K], and `bias_i`, float32 [C'];
            `centre`, float32 [D], and `projection`, float16 [D, F], for the D descriptors.
    """

    def __init__(self, arrays: Mapping[str, NDArray], device: torch.device) -> None:
        self.arrays = arrays
        self._tensors = {
            name: torch.from_numpy(np.asarray(array, np.float32)).to(device) for name, array in arrays.items()
        }

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the features, float32 [B, F], of images [B, 3, S, S] on the network's device.

        The images are uint8, or float from 0 to 255 for gradients with respect to them.
        """
        return (self.descriptors(images) - self._tensors["centre"]) @ self._tensors["projection"]

    def descriptors(self, images: Tensor) -> Tensor:
        """Compute the descriptors before whitening, float32 [B, D], of images as in `__call__`."""
        pixels = to_input(images)
        first, second, third, fourth = self.layers(pixels)
        parts = [
            F.adaptive_avg_pool2d(pixels, 4),
            *(part for layer in (first, second) for part in (layer.mean((2, 3)), layer.std((2, 3)))),
            F.adaptive_avg_pool2d(third, 2),
            fourth.mean((2, 3)),
        ]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def layers(self, pixels: Tensor, count: int = LAYERS) -> list[Tensor]:
        """Compute the outputs of the first layers, each float32 [B, C, H, W], from those of `to_input`."""
        outputs = [pixels]
        for index in range(count):
            responses = convolve(outputs[-1], self._tensors[f"filters_{index}"])
            outputs.append(F.relu(responses + self._tensors[f"bias_{index}"][:, None, None]))
        return outputs[1:]


def load_arrays() -> dict[str, NDArray]:
    """Load the arrays included in the package."""
    with files("gan.metrics").joinpath("random_features.npz").open("rb") as file:
        return dict(np.load(file, allow_pickle=False))


def to_input(images: Tensor) -> Tensor:
    """Resize images [B, 3, S, S] from 0 to 255 to the network's input: float32 [B, 3, 96, 96] in [-1, 1]."""
    resized = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
    return resized / 127.5 - 1


def convolve(images: Tensor, filters: Tensor) -> Tensor:
    """Convolve with stride 2, [C', C, K, K] with odd K: [B, C, H, W] to [B, C', H / 2, W / 2]."""
    edge = filters.shape[-1] // 2
    return F.conv2d(F.pad(images, (edge,) * 4, "reflect"), filters, stride=2)
