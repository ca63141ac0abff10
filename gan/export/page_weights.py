"""A trained generator as the bytes that the explorer page computes with."""

from __future__ import annotations

import json

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from torch import nn

from gan.export.onnx_file import fold_batch_norm
from gan.generator import LoadedGenerator
from gan.latent.directions import Directions

FORMAT = "face-lab page 1"
LEADING = 8
"""Unnamed directions in a page."""


def page_weights(generator: LoadedGenerator, directions: Directions | None = None) -> bytes:
    """A generator and its directions for the explorer page, as the contents of a .safetensors file.

    Batch norm is folded into the weights. Matrices and filters are in half precision, the rest in single:

    - `layer0.weight` [C * side * side, latent_size], `layer1.weight` ... `layer4.weight` [in, out, 5, 5] of
      the transposed convolutions, each with its `bias`;
    - `directions` [K, latent_size], the named ones, if there are any;
    - `leading` [8, latent_size], unnamed ones (`leading_directions`), and `metric` [latent_size,
      latent_size], from which they come: how much the first features change along each direction.

    The metadata says which generator it is, without paths of this machine, and has the directions' scores.

    Args:
        generator: any.
        directions: those of this generator, if it has any.
    """
    network = fold_batch_norm(generator.network)
    layers = [layer for layer in network if isinstance(layer, nn.Linear | nn.ConvTranspose2d)]
    tensors: dict[str, NDArray[np.float16] | NDArray[np.float32]] = {}
    for index, layer in enumerate(layers):
        tensors[f"layer{index}.weight"] = layer.weight.cpu().half().contiguous().numpy()
        tensors[f"layer{index}.bias"] = layer.bias.cpu().float().contiguous().numpy()
    projection = layers[0].weight.cpu().double().numpy()
    metric = projection.T @ projection
    tensors["metric"] = (metric / np.trace(metric) * len(metric)).astype(np.float32)
    tensors["leading"] = leading_directions(metric)
    if directions.by_name:
        tensors["directions"] = np.stack([one.vector for one in directions.by_name.values()]).astype(
            np.float32
        )
    description = {
        "format": FORMAT,
        "run": generator.run.resolve().name,
        "digest": generator.digest,
        "step": generator.step,
        "weights": generator.weights,
        "seed": generator.seed,
        "latent_size": generator.latent_size,
        "image_size": generator.image_size,
        "widths": [generator.network.first_shape[0], *(layer.weight.shape[0] for layer in layers[2:])],
        "directions": directions.table() if directions else [],
    }
    return safetensors.numpy.save(tensors, {"page": json.dumps(description)})


def leading_directions(metric: NDArray[np.float64], count: int = LEADING) -> NDArray[np.float32]:
    """The directions that change the first layer's features most: SeFa (Shen and Zhou 2021).

    Args:
        metric: W'W of the first layer's weights W, with batch norm folded in, [latent_size, latent_size].
        count: number of directions.

    Returns:
        float32 [count, latent_size], or fewer if the latent space has fewer dimensions: eigenvectors of
        length 1, by falling eigenvalue. The largest value of each is positive.
    """
    _, vectors = np.linalg.eigh(metric)
    leading = vectors.T[::-1][:count]
    signs = np.sign(leading[np.arange(len(leading)), np.abs(leading).argmax(axis=1)])
    return (leading * signs[:, None]).astype(np.float32)
