"""A trained generator as the bytes that the explorer page computes with."""

from __future__ import annotations

import json
import re

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from torch import nn

from gan.export.onnx_file import fold_batch_norm
from gan.generator import LoadedGenerator
from gan.latent.directions import Direction, Directions
from gan.latent.leading import sefa
from gan.latent.regression import eigenvectors

FORMAT = "face-lab page 1"
LEADING = 8
"""Unnamed directions in a page whose generator has none."""
UNNAMED = re.compile(r"(leading|sefa)_\d+")
SOURCE = "change of the first features"


def page_weights(generator: LoadedGenerator, directions: Directions | None = None) -> bytes:
    """A generator and its directions for the explorer page, as the contents of a .safetensors file.

    Batch norm is folded into the weights. Matrices and filters are in half precision, the rest in single:

    - `layer0.weight` [C * side * side, latent_size], `layer1.weight` ... `layer4.weight` [in, out, 5, 5] of
      the transposed convolutions, each with its `bias`;
    - `directions` [K, latent_size], with unnamed ones among them;
    - `metric` [latent_size, latent_size]: how much the first features change along each direction
      (`gan.latent.leading.sefa`), with a mean of 1 on its diagonal.

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
    metric = sefa(generator)
    tensors["metric"] = (metric / np.trace(metric) * len(metric)).astype(np.float32)
    directions = with_unnamed(generator, directions)
    vectors = np.stack([one.vector for one in directions.by_name.values()])
    tensors["directions"] = vectors.astype(np.float32)
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
        "directions": directions.table(),
    }
    return safetensors.numpy.save(tensors, {"page": json.dumps(description)})


def with_unnamed(generator: LoadedGenerator, directions: Directions | None) -> Directions:
    """These directions and, unless they contain unnamed ones already, the leading ones of SeFa."""
    known = directions or Directions(generator.digest)
    if any(UNNAMED.fullmatch(name) for name in known.names):
        return known
    vectors, _ = eigenvectors(sefa(generator))
    found = {f"sefa_{i}": Direction(vector, SOURCE) for i, vector in enumerate(vectors[:LEADING], 1)}
    return known.with_directions(found)
