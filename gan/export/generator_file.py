"""A trained generator as one .safetensors file: its weights and settings, and nothing that can run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from engine.device import choose_device
from engine.errors import UserError
from engine.files import atomic_write
from engine.runs import report_write_errors
from engine.settings import Device, to_json
from engine.tensor_file import read_tensors
from gan.config import Settings, from_json, upgrade
from gan.export import GENERATOR_FORMAT
from gan.generator import LoadedGenerator
from gan.latent.directions import KEY, Directions
from gan.networks import make_generator

FORMAT = GENERATOR_FORMAT
MAX_STEP = 10**12
PRIVATE = ("folder", "exclude", "output", "cache", "device", "workers")
"""Settings that describe the owner's machine, which are left out of a file."""


def save_generator(
    generator: LoadedGenerator, path: Path, *, half: bool = False, directions: Directions | None = None
) -> None:
    """Write a generator to a file.

    Args:
        generator: any; its BatchNorm statistics are stored with the weights.
        path: the file to write, or to replace.
        half: store the matrices and filters, but not the vectors, in half precision.
        directions: of the generator, to store with it; None for none.

    Raises:
        UserError: the file cannot be written.
    """
    settings = to_json(generator.settings)
    metadata = {
        "format": FORMAT,
        "run": generator.run.resolve().name,
        "step": str(generator.step),
        "weights": generator.weights,
        "settings": json.dumps({name: settings[name] for name in settings if name not in PRIVATE}),
    }
    tensors = {name: _stored(weight, half=half) for name, weight in generator.network.state_dict().items()}
    if directions is not None and directions.names:
        vectors, description = directions.contents()
        tensors |= {name: torch.from_numpy(array) for name, array in vectors.items()}
        metadata |= description
    with report_write_errors(path), atomic_write(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))


def load_generator_file(
    path: Path, output: Path = Path("outputs"), device: Device = "cpu"
) -> LoadedGenerator:
    """Load a generator that `save_generator` wrote.

    Args:
        path: the file.
        output: the folder of runs; its pictures go to `exported/` there, in a folder with the file's name.
        device: where to compute, in float32.

    Raises:
        UserError: the file cannot be read, is damaged, or contains no generator; the device does not exist.
    """
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT:
        known = f"; this version reads {FORMAT}" if "format" in metadata else ""
        raise UserError(f"{path} is not a generator that export.py wrote{known}")
    try:
        stored, step = json.loads(metadata["settings"]), int(metadata["step"])
        public = {name: value for name, value in stored.items() if name not in PRIVATE}
        # Upgraded first, or settings that the file is too old to have would be today's defaults.
        settings = from_json(to_json(Settings()) | upgrade(public))
        weights = metadata["weights"]
        if step < 0 or step > MAX_STEP or weights not in ("ema", "raw"):
            raise ValueError("its step or its kind of weights is impossible")
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, UserError) as error:
        raise UserError(f"{path} is damaged: its description cannot be read ({error})") from None
    tensors.pop(KEY, None)  # `Directions.of` reads them
    with torch.device("meta"):  # the network of an edited description may not fit in memory
        shapes = {name: weight.shape for name, weight in make_generator(settings).state_dict().items()}
    if {name: weight.shape for name, weight in tensors.items()} != shapes:
        raise UserError(f"{path} is damaged: its weights do not fit its description")
    if not all(weight.isfinite().all() for weight in tensors.values()):
        raise UserError(f"{path} is damaged: a weight is NaN or infinite")
    network = make_generator(settings)
    network.load_state_dict(tensors)
    network = network.to(choose_device(device), memory_format=torch.channels_last)
    run = folder_of_results(path, output)
    return LoadedGenerator(network.eval(), run, path, step, weights, settings)


def folder_of_results(path: Path, output: Path) -> Path:
    """The folder for the pictures of a generator in a file, in the folder of runs."""
    return output / "exported" / path.stem


def _stored(weight: Tensor, *, half: bool) -> Tensor:
    weight = weight.detach().cpu().contiguous()
    return weight.half() if half and weight.dim() > 1 else weight


def _read(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """A file's metadata and its tensors, of which those in half precision become float32."""
    metadata, tensors = read_tensors(path, "pt")
    widened = {
        name: weight.float() if weight.dtype == torch.float16 else weight for name, weight in tensors.items()
    }
    return metadata, widened
