"""What a training left, read back: the parts that are alike for every kind of network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from engine.checkpoint import load_path
from engine.errors import UserError


def load_trained(path: str | Path, kind: str, missing: str) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a run or file, and what it holds.

    Args:
        path: a run's folder, of which the best checkpoint is taken or, where no step has a score, the
            newest; or a checkpoint's file, which needs nothing beside it.
        kind: of training, as the checkpoint tells it.
        missing: what a checkpoint of another kind lacks, and what makes one that has it, for the message.

    Raises:
        UserError: there is no such file or folder, it is damaged, or it is of another kind.
    """
    file, state = load_path(Path(path))
    if state.get("kind") != kind:
        raise UserError(f"{file} holds no {missing}")
    return file, state


@contextmanager
def made_from(file: Path) -> Iterator[None]:
    """Make a network of a checkpoint in this block; one that does not fit itself is told (`UserError`)."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError, AttributeError):
        raise UserError(f"{file} holds another network than it tells of") from None


def weights_in_use(state: dict[str, Any]) -> dict[str, Tensor]:
    """Of what a checkpoint holds the weights to use: the averaged ones or, where none are kept, the raw."""
    return state["average"] or state["network"]
