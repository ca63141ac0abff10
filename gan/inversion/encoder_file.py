"""Encoders beside their generators: trained once, then loaded."""

from __future__ import annotations

import contextlib
from pathlib import Path

import safetensors.torch
import torch

from engine.errors import UserError
from engine.files import atomic_write, is_file
from engine.runs import report_write_errors
from engine.tensor_file import read_tensors
from gan import pretrained
from gan.generator import LoadedGenerator
from gan.inversion.encoder import Encoder

FORMAT = "face-lab encoder 1"
FILE_NAME = "encoder.safetensors"
KEPT = 4
"""Encoders kept in a run's folder, where each checkpoint has two generators, averaged and raw. Beyond that,
those unused for the longest are deleted."""
DAMAGED = "is damaged: delete it, and it is made again"


def encoder_path(generator: LoadedGenerator) -> Path:
    """Where a generator's encoder is kept: in the run's folder, or beside an exported file.

    In a run its name contains the digest of the weights, as a run has several. That of the generator that
    comes with the project is kept in the folder of its pictures.
    """
    if generator.is_file and generator.checkpoint != pretrained.FILE:
        return generator.checkpoint.with_suffix(f".{FILE_NAME}")
    return generator.run / _name_in_run(generator.digest)


def save_encoder(encoder: Encoder, generator: LoadedGenerator) -> Path:
    """Write an encoder to `encoder_path` and return that. Raises `UserError` if it cannot be written."""
    path = encoder_path(generator)
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in encoder.state_dict().items()}
    metadata = {"format": FORMAT, "generator": generator.digest}
    with report_write_errors(path), atomic_write(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))
    if path.parent == generator.run:
        _remove_oldest(generator.run)
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
    metadata, tensors = read_tensors(path, "pt", damaged=DAMAGED)
    if metadata.get("format") != FORMAT or metadata.get("generator") != generator.digest:
        return None
    encoder = Encoder(generator.latent_size, generator.image_size)
    try:
        encoder.load_state_dict(tensors)
    except RuntimeError:
        raise UserError(f"{path} {DAMAGED}") from None
    with contextlib.suppress(OSError):
        path.touch()  # so that the encoders in use are kept
    device = next(generator.network.parameters()).device
    return encoder.to(device, memory_format=torch.channels_last).eval()


def _name_in_run(digest: str) -> str:
    return f"encoder-{digest}.safetensors"


def _remove_oldest(run: Path) -> None:
    """Delete encoders of a run beyond the `KEPT` used last: they can be trained again."""
    with contextlib.suppress(OSError):
        files = sorted(run.glob(_name_in_run("[0-9a-f]" * 16)), key=lambda file: file.stat().st_mtime_ns)
        for file in files[:-KEPT]:
            file.unlink(missing_ok=True)
