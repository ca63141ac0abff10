"""Loading trained networks from checkpoints of any task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.checkpoint import load_path
from engine.errors import UserError


def load_trained(path: str | Path, kind: str, missing: str) -> tuple[Path, dict[str, Any]]:
    """Load the checkpoint of a run, or a checkpoint file.

    Args:
        path: a run's folder, whose best checkpoint is loaded or, if no step has a score yet, the newest; or a
            checkpoint file.
        kind: required kind of the checkpoint, the name of its task.
        missing: what checkpoints of another kind do not contain, and what makes it, for the message.

    Returns:
        The file and its content.

    Raises:
        UserError: the file or folder does not exist, is damaged, or is of another kind.
    """
    file, state = load_path(Path(path))
    if state.get("kind") != kind:
        raise UserError(f"{file} contains no {missing}")
    return file, state


@contextmanager
def report_network_mismatch(file: Path) -> Iterator[None]:
    """Raise `UserError` if the network made in this block does not fit the checkpoint's own settings."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{file} is damaged: its weights do not match the network that its settings describe"
        ) from None


def evaluation_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """The weights to use: those of the moving average (EMA) or, without one, of the last step."""
    return state["average"] or state["network"]
