"""Encoders beside their generators: trained once, then loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from engine.errors import UserError
from engine.files import atomic_write, is_file
from engine.runs import report_write_errors
from gan.generator import LoadedGenerator
from gan.inversion.encoder import Encoder

FORMAT = "face-lab encoder 1"
FILE_NAME = "encoder.safetensors"


def encoder_path(generator: LoadedGenerator) -> Path:
    """Where a generator's encoder is kept: in the run's folder, or beside an exported file."""
    if generator.is_file:
        return generator.checkpoint.with_suffix(f".{FILE_NAME}")
    return generator.run / FILE_NAME


def save_encoder(encoder: Encoder, generator: LoadedGenerator) -> Path:
    """Write an encoder to `encoder_path` and return that. Raises `UserError` if it cannot be written."""
    path = encoder_path(generator)
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in encoder.state_dict().items()}
    metadata = {"format": FORMAT, "generator": generator.digest}
    with report_write_errors(path), atomic_write(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))
    return path


def load_encoder(generator: LoadedGenerator) -> Encoder | None:
    """Load a generator's encoder onto its device, in evaluation mode.

    Returns:
        The encoder; None if there is none yet, or it belongs to other weights of the generator.

    Raises:
        UserError: the file is damaged or cannot be read.
    """
    path = encoder_path(generator)
    if not is_file(path):
        return None
    try:
        metadata, tensors = _read(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except SafetensorError:
        raise UserError(f"{path} is damaged: delete it, and it is made again") from None
    if metadata.get("format") != FORMAT or metadata.get("generator") != generator.digest:
        return None
    encoder = Encoder(generator.latent_size, generator.image_size)
    try:
        encoder.load_state_dict(tensors)
    except RuntimeError:
        raise UserError(f"{path} is damaged: delete it, and it is made again") from None
    device = next(generator.network.parameters()).device
    return encoder.to(device, memory_format=torch.channels_last).eval()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
