"""Detect NaN and infinity without synchronising with the device at every step."""

from __future__ import annotations

import torch
from torch import Tensor

EXIT_DIVERGED = 3
"""Exit code of a script whose training failed for good."""


class DivergedError(Exception):
    """A value is no longer finite. The message is one line and contains the step."""


class FiniteCheck:
    """Records on the device the first step at which a watched value was NaN or infinite.

    Reading it back costs a transfer, so `check` is called only before logging or saving; the step is exact
    nevertheless.
    """

    def __init__(self, device: torch.device) -> None:
        self._first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)

    def watch(self, step: int | Tensor, values: Tensor) -> None:
        """Inspect a step's losses and gradient norms without reading them back.

        Args:
            step: the step's number; a tensor, int64 [], if the step is recorded as a CUDA graph.
            values: what must be finite, float [K] on the device.
        """
        is_first = ~torch.isfinite(values).all() & (self._first_bad_step < 0)
        self._first_bad_step.copy_(torch.where(is_first, step, self._first_bad_step))

    def check(self) -> None:
        """Raise `DivergedError` if a value was not finite in any step so far."""
        step = int(self._first_bad_step)
        if step >= 0:
            raise DivergedError(f"a loss or gradient was NaN or infinite at step {step}")
