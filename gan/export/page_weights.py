"""A trained generator as the bytes that the explorer page computes with."""

from __future__ import annotations

import json

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from torch import nn

from gan.export.onnx_file import fold_batch_norm
from gan.generator import LoadedGenerator

FORMAT = "face-lab page 1"
LEADING = 8
"""Unnamed directions in a page."""


def page_weights(generator: LoadedGenerator) -> bytes:
    """A generator for web/static/explorer/worker.js, as the contents of a .safetensors file.

    Batch norm is folded into the weights. Matrices and filters are in half precision, the rest in single:
    `layer0.weight` [C * side * side, latent_size] and `layer1.weight` ... `layer4.weight` [in, out, 5, 5] of
    the transposed convolutions, each with its `bias`, and `leading` (`leading_directions`). The metadata says
    which generator it is, without paths of this machine.
    """
    network = fold_batch_norm(generator.network)
    layers = [layer for layer in network if isinstance(layer, nn.Linear | nn.ConvTranspose2d)]
    tensors: dict[str, NDArray[np.float16] | NDArray[np.float32]] = {}
    for index, layer in enumerate(layers):
        tensors[f"layer{index}.weight"] = layer.weight.cpu().half().contiguous().numpy()
        tensors[f"layer{index}.bias"] = layer.bias.cpu().float().contiguous().numpy()
    tensors["leading"] = leading_directions(layers[0].weight.cpu().double().numpy())
    description = {
        "format": FORMAT,
        "run": generator.run.resolve().name,
        "step": generator.step,
        "weights": generator.weights,
        "seed": generator.seed,
        "latent_size": generator.latent_size,
        "image_size": generator.image_size,
        "widths": [generator.network.first_shape[0], *(layer.weight.shape[0] for layer in layers[2:])],
    }
    return safetensors.numpy.save(tensors, {"page": json.dumps(description)})


def leading_directions(projection: NDArray[np.float64], count: int = LEADING) -> NDArray[np.float32]:
    """The directions that change the first layer's features most: SeFa (Shen and Zhou 2021).

    Args:
        projection: weights of the first layer, [features, latent_size], with batch norm folded in.
        count: number of directions.

    Returns:
        float32 [count, latent_size], or fewer if the latent space has fewer dimensions: eigenvectors of
        W'W of length 1, by falling eigenvalue. The largest value of each is positive.
    """
    _, vectors = np.linalg.eigh(projection.T @ projection)
    leading = vectors.T[::-1][:count]
    signs = np.sign(leading[np.arange(len(leading)), np.abs(leading).argmax(axis=1)])
    return (leading * signs[:, None]).astype(np.float32)
