"""Ctrl-C, SIGTERM and SIGHUP: the first asks the training to finish its step, the second ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, a polite kill, and a terminal that was closed, where the system has that."""
GRACE_SECONDS = 20.0
"""Seconds that one of several processes has to end well, beside twice its longest turn."""
UNMEASURED = 60.0
"""Seconds of a turn, as long as none has ended."""


def grace_period(longest_step: float | None) -> float:
    """Seconds after which a process that was asked to end, and has not, is taken to wait for ever.

    One that is well needs what is left of a turn, at the end of which it learns of the signal, and then
    saves. torchrun itself kills after 30 s, or what its --shutdown-timeout says, if the signal was for it.

    Args:
        longest_step: seconds of the longest step so far with all that was done after it; None before the
            first has ended.
    """
    return GRACE_SECONDS + 2 * (UNMEASURED if longest_step is None else longest_step)


def exit_code(received: int | None) -> int:
    """128 plus a signal's number, as shells have it: 130, 143 or 129; 0 where there was none."""
    return 128 + received if received else 0


class SignalHandler:
    """While its block runs, remembers the first of `SIGNALS` instead of dying of it.

    From then on all have their usual effect again, so that a second one leaves at once.

    Args:
        grace_period: for a process that torchrun started, which may get each signal twice, from the terminal
            and from torchrun, and may be waiting for a process that is gone: it does not heed a second
            signal but ends, whatever it is at, so many seconds after the first as this tells then.
    """

    def __init__(self, grace_period: Callable[[], float] | None = None) -> None:
        self.received: signal.Signals | None = None
        self._grace_period = grace_period

    def __enter__(self) -> SignalHandler:
        # What is ignored stays so: that is how nohup keeps a run going.
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._remember) for number in heeded}
        self._watch = contextlib.ExitStack()
        if self._grace_period is not None:
            self._watch.enter_context(_ending_late(self._grace_period))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.close()
        for number, handler in self._before.items():
            if handler is not None:  # one that was not set from Python cannot be set again
                signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        if self._grace_period is None:
            for other in self._before:
                signal.signal(other, signal.SIG_DFL)


@contextlib.contextmanager
def _ending_late(grace_period: Callable[[], float]) -> Iterator[None]:
    """End the process when grace_period is over after its first signal, unless the block has ended by then.

    A handler of Python's would wait for a library's call that never returns; a thread does not.
    """
    over = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        told = os.read(reading, 1)
        if told and not over.wait(grace_period()):
            os._exit(128 + told[0])
        os.close(reading)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writing)
