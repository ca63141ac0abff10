"""Read .safetensors files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from engine.errors import UserError


def read_tensors(
    path: Path,
    library: Literal["np", "pt"],
    *,
    names: Collection[str] | None = None,
    damaged: str = "is damaged, or not a .safetensors file",
) -> tuple[dict[str, str], dict[str, Any]]:
    """Read a .safetensors file.

    Args:
        path: the file.
        library: whether the tensors are of NumPy or, on the CPU, of torch.
        names: of the tensors to read, of which some may be missing; None for all.
        damaged: what to say of a damaged file, after its name.

    Returns:
        The metadata, and the tensors by name.

    Raises:
        UserError: the file cannot be read or is damaged.
    """
    try:
        with safe_open(path, library) as file:
            wanted = [name for name in file.keys() if names is None or name in names]  # noqa: SIM118
            return file.metadata() or {}, {name: file.get_tensor(name) for name in wanted}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except SafetensorError:
        raise UserError(f"{path} {damaged}") from None
