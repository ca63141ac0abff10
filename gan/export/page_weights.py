"""A trained generator as the bytes that the explorer page computes with.

Nothing here imports torch, whose import takes longer than all else that a page needs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gan.export import GENERATOR_FORMAT
from gan.latent.directions import Direction, Directions
from gan.latent.regression import eigenvectors

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator

FORMAT = "face-lab page 1"
LEADING = 8
"""Unnamed directions in a page whose generator has none."""
UNNAMED = re.compile(r"(leading|sefa)_\d+")
SOURCE = "change of the first features"
NORM_EPSILON = 1e-5
"""Epsilon of torch's batch norm."""

Weights = Mapping[str, NDArray[Any]]
"""The state of a `gan.networks.Generator` by torch's names."""


@dataclass(frozen=True)
class PageGenerator:
    """What a page needs to know about a generator.

    Attributes:
        state: its weights.
        run: name of its run.
        step: of its checkpoint.
        weights: `ema` or `raw`.
        seed: of its sample grids.
        checkpoint: where its weights are.
        is_file: whether that is a file of export.py instead of a checkpoint of a run.
    """

    state: Weights
    run: str
    step: int
    weights: str
    seed: int
    checkpoint: Path
    is_file: bool = True

    @classmethod
    def of(cls, generator: LoadedGenerator) -> PageGenerator:
        """The same for a generator that torch has loaded."""
        state = {name: weight.cpu().numpy() for name, weight in generator.network.state_dict().items()}
        name, place = generator.run.resolve().name, generator.checkpoint
        return cls(
            state, name, generator.step, generator.weights, generator.seed, place, is_file=generator.is_file
        )

    @classmethod
    def read(cls, path: Path) -> PageGenerator | None:
        """Read a file of export.py; None if it cannot be read so, and `load_generator_file` knows why."""
        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata()
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            seed = json.loads(metadata["settings"])["seed"]
            state = {name: state[name] for name in state if name.startswith(("project.", "layers."))}
            read = cls(state, path.stem, int(metadata["step"]), metadata["weights"], int(seed), path)
            if metadata["format"] != GENERATOR_FORMAT or not _is_generator(fold_batch_norm(read.state)):
                return None
        except (OSError, SafetensorError, LookupError, TypeError, ValueError, ArithmeticError):
            return None
        return read

    @property
    def latent_size(self) -> int:
        """Values in a latent vector."""
        return self.state["project.weight"].shape[1]

    @property
    def digest(self) -> str:
        """The same as `LoadedGenerator.digest`."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.state.items()):
            if weight.dtype.kind == "f":
                digest.update(f"{name} {tuple(weight.shape)}".encode())
                digest.update(np.ascontiguousarray(weight, np.float16).tobytes())
        return digest.hexdigest()[:16]


def page_weights(
    generator: PageGenerator | LoadedGenerator,
    directions: Directions | None = None,
    note: str = "",
    *,
    source: str = "",
) -> bytes:
    """A generator and its directions for the explorer page, as the contents of a .safetensors file.

    Batch norm is folded into the weights. Matrices and filters are in half precision, the rest in single:

    - `layer0.weight` [C * side * side, latent_size], `layer1.weight` ... `layer4.weight` [in, out, 5, 5] of
      the transposed convolutions, each with its `bias`;
    - `directions` [K, latent_size], with unnamed ones among them;
    - `metric` [latent_size, latent_size]: how much the first features change along each direction, as
      `gan.latent.leading.sefa`, with a mean of 1 on its diagonal.

    The metadata says which generator it is, without paths of this machine, and has the directions' scores.

    Args:
        generator: any.
        directions: those of this generator, if it has any.
        note: shown when the page opens.
        source: kept in the metadata.
    """
    if not isinstance(generator, PageGenerator):
        generator = PageGenerator.of(generator)
    tensors: dict[str, NDArray[Any]] = {}
    layers = fold_batch_norm(generator.state)
    for index, (weight, bias) in enumerate(layers):
        tensors[f"layer{index}.weight"] = np.ascontiguousarray(weight, np.float16)
        tensors[f"layer{index}.bias"] = np.ascontiguousarray(bias, np.float32)
    projection = layers[0][0].astype(np.float64)
    metric = projection.T @ projection
    tensors["metric"] = (metric / np.trace(metric) * len(metric)).astype(np.float32)
    directions = _with_unnamed(directions or Directions(generator.digest), metric)
    tensors["directions"] = np.stack([one.vector for one in directions.by_name.values()]).astype(np.float32)
    widths = [layer[0].shape[0] for layer in layers[1:]]
    description = {
        "format": FORMAT,
        "run": generator.run,
        "digest": generator.digest,
        "step": generator.step,
        "weights": generator.weights,
        # As text, because a number in JavaScript is exact only below 2^53.
        "seed": str(generator.seed),
        "latent_size": generator.latent_size,
        "image_size": 16 * round((len(projection) / widths[0]) ** 0.5),
        "widths": widths,
        "directions": directions.table(),
        "note": note,
        "source": source,
    }
    # One entry, because safetensors stores several in an order that changes.
    return safetensors.numpy.save(tensors, {"page": json.dumps(description)})


def fold_batch_norm(state: Weights) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weight and bias of each layer, with batch norm's scale and shift as part of them.

    Returns:
        Those of the linear layer, then of the transposed convolutions, float32, in torch's shapes.
    """
    folded: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    weight = state["project.weight"].astype(np.float32)
    for index in sorted({int(name.split(".")[1]) for name in state if name.startswith("layers.")}):
        layer = {name.split(".")[2]: state[name] for name in state if name.startswith(f"layers.{index}.")}
        if "running_var" in layer:
            values = {name: layer[name].astype(np.float32) for name in layer}
            scale = values["weight"] / np.sqrt(values["running_var"] + np.float32(NORM_EPSILON))
            shift = values["bias"] - values["running_mean"] * scale
            if weight.ndim == 2:
                positions = len(weight) // len(scale)
                scale, shift = scale.repeat(positions), shift.repeat(positions)
                folded.append((weight * scale[:, None], shift))
            else:
                folded.append((weight * scale[:, None, None], shift))
        else:
            weight = layer["weight"].astype(np.float32)
            if "bias" in layer:
                folded.append((weight, layer["bias"].astype(np.float32)))
    return folded


def _is_generator(layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> bool:
    """Whether the shapes of folded layers are those of a generator, and all values are finite."""
    (projection, _), *convolutions = layers
    widths = [weight.shape[0] for weight, _ in convolutions]
    side = round((len(projection) / widths[0]) ** 0.5)
    shapes = [(*pair, 5, 5) for pair in pairwise([*widths, 3])]
    return (
        len(convolutions) == 4
        and projection.shape[0] == widths[0] * side**2
        and [weight.shape for weight, _ in convolutions] == shapes
        and all(np.isfinite(value).all() for layer in layers for value in layer)
    )


def _with_unnamed(directions: Directions, metric: NDArray[np.float64]) -> Directions:
    """These directions and, unless they contain unnamed ones already, the leading ones of SeFa."""
    if any(UNNAMED.fullmatch(name) for name in directions.names):
        return directions
    vectors, _ = eigenvectors(metric)
    found = {f"sefa_{i}": Direction(vector, SOURCE) for i, vector in enumerate(vectors[:LEADING], 1)}
    return directions.with_directions(found)
