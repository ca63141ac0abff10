"""What can go wrong with a training, and how it is seen."""

from __future__ import annotations

import torch
from torch import Tensor

EXIT_CODE = 3
"""Of a script whose training went wrong beyond repair."""


class DivergedError(Exception):
    """A value stopped being finite. The message is one line and names the step."""


class FiniteLatch:
    """Remembers on the device the first step at which a watched value was NaN or infinite.

    Looking costs a transfer, so it is done only when something is logged or saved; the step found is
    right all the same.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def watch(self, step: int, values: Tensor) -> None:
        """Look at a step's losses and gradient norms, float [K], without reading them back."""
        bad = ~torch.isfinite(values).all() & (self._first < 0)
        self._first.masked_fill_(bad, step)

    def check(self) -> None:
        """Raise `DivergedError` if any step so far was not finite."""
        step = int(self._first)
        if step >= 0:
            raise DivergedError(f"a loss or gradient was NaN or infinite at step {step}")
