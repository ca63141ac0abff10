"""Ctrl-C and SIGTERM: the first asks the training to finish its step, the second ends it at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """While its block runs, remembers the first SIGINT or SIGTERM instead of dying of it.

    From then on both have their usual effect again, so that a second one leaves at once.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells have it: 130 or 143; 0 if there was none."""
        return 128 + self.received if self.received else 0

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)
