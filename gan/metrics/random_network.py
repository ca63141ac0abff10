"""A small convolutional network with fixed random weights, whose features show what images are like.

Random features tell sets of images apart without having seen any, and show what a network trained on
photos of things may not look for (Naeem et al. 2020). Four layers of random orthogonal filters halve the
image each time. What is kept of them is coarse: the colours of a 4 x 4 grid; how strong each filter of the
first two layers answers and how unevenly; the third layer in a 2 x 2 grid; the fourth as a whole. These
values depend on each other so much that a few directions would drown the rest, so they are whitened:
projected to the 128 strongest directions in which drawn faces differ, each scaled to variance 1 on those.

The weights are a file and never drawn anew, so that scores compare between versions of torch.
experiments/random_features.py made it, from drawn faces alone.
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
"""Pixels that images are resized to."""

PREPROCESSING = "bilinear, antialiased, 96 px, [-1, 1]; reflected edges, stride 2, ReLU; version 1"
"""What beside the weights the features follow from."""

LAYERS = 4


class RandomNetwork:
    """The network; its weights are a mapping from names to arrays.

    Attributes:
        arrays: of each layer i from 0 `filters_i`, float16 [C', C, K, K], and `bias_i`, float32 [C'];
            `centre`, float32 [D], and `projection`, float16 [D, F], of the D values that are kept.
    """

    def __init__(self, arrays: Mapping[str, NDArray], device: torch.device) -> None:
        self.arrays = arrays
        self._tensors = {
            name: torch.from_numpy(np.asarray(array, np.float32)).to(device) for name, array in arrays.items()
        }

    def __call__(self, images: Tensor) -> Tensor:
        """The features, float32 [B, F], of images, uint8 [B, 3, S, S] on the network's device."""
        return (self.descriptors(images) - self._tensors["centre"]) @ self._tensors["projection"]

    def descriptors(self, images: Tensor) -> Tensor:
        """What is kept of the layers, float32 [B, D], of images, uint8 [B, 3, S, S]."""
        pixels = to_input(images)
        first, second, third, fourth = self.layers(pixels)
        kept = [
            F.adaptive_avg_pool2d(pixels, 4),
            *(part for layer in (first, second) for part in (layer.mean((2, 3)), layer.std((2, 3)))),
            F.adaptive_avg_pool2d(third, 2),
            fourth.mean((2, 3)),
        ]
        return torch.cat([part.flatten(1) for part in kept], dim=1)

    def layers(self, pixels: Tensor, count: int = LAYERS) -> list[Tensor]:
        """The first layers' answers, each float32 [B, C, H, W], to what `to_input` made."""
        answers = [pixels]
        for index in range(count):
            responses = convolve(answers[-1], self._tensors[f"filters_{index}"])
            answers.append(F.relu(responses + self._tensors[f"bias_{index}"][:, None, None]))
        return answers[1:]


def load_arrays() -> dict[str, NDArray]:
    """The arrays that ship with the package."""
    with files("gan.metrics").joinpath("random_features.npz").open("rb") as file:
        return dict(np.load(file, allow_pickle=False))


def to_input(images: Tensor) -> Tensor:
    """Images, uint8 [B, 3, S, S], as the network takes them: float32 [B, 3, 96, 96] in [-1, 1]."""
    resized = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
    return resized / 127.5 - 1


def convolve(images: Tensor, filters: Tensor) -> Tensor:
    """Filters, [C', C, K, K] with odd K, at every second pixel: [B, C, H, W] to [B, C', H / 2, W / 2]."""
    edge = filters.shape[-1] // 2
    return F.conv2d(F.pad(images, (edge,) * 4, "reflect"), filters, stride=2)
