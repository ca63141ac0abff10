"""Ctrl-C, SIGTERM and SIGHUP: the first asks the training to finish its step, the second ends it at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Ctrl-C, a polite kill, and a terminal that was closed, where the system has that."""


class Interrupt:
    """While its block runs, remembers the first of `SIGNALS` instead of dying of it.

    From then on all have their usual effect again, so that a second one leaves at once.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells have it: 130, 143 or 129; 0 if there was none."""
        return 128 + self.received if self.received else 0

    def __enter__(self) -> Interrupt:
        # What is ignored stays so: that is how nohup keeps a run going.
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._remember) for number in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for other in self._before:
            signal.signal(other, signal.SIG_DFL)
