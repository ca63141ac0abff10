"""Notice values that stop being finite without reading them back from the device at every step."""

from __future__ import annotations

import torch
from torch import Tensor

EXIT_DIVERGED = 3
"""Exit code of a script whose training failed for good."""


class DivergedError(Exception):
    """A value stopped being finite. The message is one line and names the step."""


class FiniteCheck:
    """Remembers on the device the first step at which a watched value was NaN or infinite.

    Looking costs a transfer, so it is done only when something is logged or saved; the step found is
    right all the same.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def watch(self, step: int | Tensor, values: Tensor) -> None:
        """Look at a step's losses and gradient norms, float [K], without reading them back.

        Args:
            step: its number; as a tensor, int64 [], where the step is recorded once and replayed.
            values: what must be finite, on the device.
        """
        bad = ~torch.isfinite(values).all() & (self._first < 0)
        self._first.copy_(torch.where(bad, step, self._first))

    def check(self) -> None:
        """Raise `DivergedError` if any step so far was not finite."""
        step = int(self._first)
        if step >= 0:
            raise DivergedError(f"a loss or gradient was NaN or infinite at step {step}")
