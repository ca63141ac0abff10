"""Make gan/metrics/random_features.npz, the weights of the random feature space.

    python -m experiments.random_features FILE

The weights are fixed: with another file, earlier scores no longer compare. They follow from a seed and from
2,000 drawn faces, on which the responses of each layer are scaled to mean 0 and variance 1 and the features
are whitened; no photo is involved. Another version of torch may draw other weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional, arg

from engine.cli import parse
from engine.errors import run_script
from engine.files import atomic_write
from engine.runs import report_write_errors
from faces.drawn.attributes import sample_face
from faces.drawn.portrait import draw_face
from gan.metrics.random_network import LAYERS, SIDE, RandomNetwork, convolve, to_input

SEED = 0
FACES_SEED = 7
FACES = 2000
CALIBRATION_FACES = 300
"""Faces on which the responses of the layers are scaled."""
CHANNELS = (3, 24, 48, 96, 128)
FILTER_SIDES = (7, 5, 3, 3)
FEATURES = 128
CPU = torch.device("cpu")


@dataclass(frozen=True)
class FileArguments:
    """Where to write."""

    file: Annotated[Path, Positional, arg(metavar="FILE")]
    """The file of weights to write."""


def main() -> None:
    """Draw faces, make the weights, write them."""
    arguments = parse(FileArguments, description=__doc__)
    arrays = make(drawn_faces())
    # Given a path, NumPy would append .npz.
    with report_write_errors(arguments.file), atomic_write(arguments.file) as path, path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"{arguments.file}: {arguments.file.stat().st_size / 1e3:.0f} kB")


def drawn_faces() -> NDArray[np.uint8]:
    """Drawn faces, uint8 [2000, 3, 96, 96]."""
    numbers = tqdm(range(FACES), "drawing", unit=" faces")
    faces = np.stack([draw_face(sample_face(FACES_SEED, number), SIDE)[0] for number in numbers])
    return np.ascontiguousarray(np.moveaxis(faces, -1, 1))


def make(images: NDArray[np.uint8]) -> dict[str, NDArray]:
    """The network's arrays, scaled on images uint8 [N, 3, 96, 96]."""
    arrays: dict[str, NDArray] = {}
    calibration = torch.from_numpy(images[:CALIBRATION_FACES])
    for index, filters in enumerate(random_filters(torch.Generator().manual_seed(SEED))):
        network = RandomNetwork(arrays, CPU)
        responses = convolve(
            [to_input(calibration), *network.layers(to_input(calibration), index)][-1], filters
        )
        deviation, mean = torch.std_mean(responses, (0, 2, 3))
        arrays[f"filters_{index}"] = (filters / deviation[:, None, None, None]).numpy().astype(np.float16)
        arrays[f"bias_{index}"] = (-mean / deviation).numpy()
    network = RandomNetwork(arrays, CPU)
    batches = torch.from_numpy(images).split(100)
    descriptors = torch.cat([network.descriptors(batch) for batch in batches]).double()
    # Scale each value to variance 1 first: colours, means and deviations have no common unit.
    deviation, centre = torch.std_mean(descriptors, 0)
    strengths, directions = torch.linalg.eigh(torch.cov(((descriptors - centre) / deviation).T))
    whitening = (directions / strengths.sqrt())[:, -FEATURES:].flip(1)
    arrays["centre"] = centre.float().numpy()
    arrays["projection"] = (whitening / deviation[:, None]).numpy().astype(np.float16)
    return arrays


def random_filters(generator: torch.Generator) -> list[Tensor]:
    """Orthogonal filters of each layer, float32 [C', C, K, K]; those of the first ignore flat colour."""
    layers = []
    for index in range(LAYERS):
        channels, side = CHANNELS[index], FILTER_SIDES[index]
        filters = torch.randn(CHANNELS[index + 1], channels, side**2, generator=generator)
        if index == 0:
            filters -= filters.mean(2, keepdim=True)
        orthogonal, _ = torch.linalg.qr(filters.flatten(1).T)
        layers.append(orthogonal.T.reshape(-1, channels, side, side))
    return layers


if __name__ == "__main__":
    run_script(main)
