"""Ctrl-C, SIGTERM, SIGHUP and SIGBREAK: the first lets training finish its step, the second exits at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Ctrl-C, `kill`, and a closed terminal (on Windows also Ctrl-Break), as far as the system has them."""
GRACE_SECONDS = 20.0
"""Grace period of a process, beside twice its longest step."""
DEFAULT_STEP_SECONDS = 60.0
"""Assumed length of a step before the first one ends."""


def grace_period(longest_step: float | None) -> float:
    """Seconds after a signal until a process of several is assumed to hang.

    A process that does not hang learns of the signal at the end of its step and then saves. torchrun kills
    after 30 s, or its --shutdown-timeout, if it received the signal itself.

    Args:
        longest_step: seconds of the longest step so far, including everything done after it; None before the
            first one ends.
    """
    return GRACE_SECONDS + 2 * (DEFAULT_STEP_SECONDS if longest_step is None else longest_step)


def exit_code(received: int | None) -> int:
    """128 plus the signal's number, as in shells: 130, 143, 129 or 149; 0 without a signal."""
    return 128 + received if received else 0


class SignalHandler:
    """A context that records the first of `SIGNALS` in `received` instead of ending the process.

    After the first, all have their default effect again, so that a second one ends the process at once.

    Args:
        grace_period: for a process started by torchrun, returns the seconds from the first signal until the
            process exits, whatever it is doing. Such a process ignores a second signal: the terminal and
            torchrun may each send one. It needs a time limit, as it may wait for a process that is gone.
    """

    def __init__(self, grace_period: Callable[[], float] | None = None) -> None:
        self.received: signal.Signals | None = None
        self._grace_period = grace_period

    def __enter__(self) -> SignalHandler:
        # Signals that are ignored stay ignored: nohup relies on that.
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._receive) for number in handled}
        self._stack = contextlib.ExitStack()
        if self._grace_period is not None:
            self._stack.enter_context(_exit_after_signal(self._grace_period))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for number, handler in self._previous.items():
            if handler is not None:  # a handler that was not set from Python cannot be restored
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        if self._grace_period is None:
            for handled in self._previous:
                signal.signal(handled, signal.SIG_DFL)


@contextlib.contextmanager
def _exit_after_signal(grace_period: Callable[[], float]) -> Iterator[None]:
    """Exit when the grace period after the first signal is over, unless the block ends earlier.

    A Python signal handler would wait for a library call that never returns; a thread does not.
    """
    block_ended = threading.Event()
    # Not a pipe: before Python 3.12, Windows cannot make one non-blocking.
    read_end, write_end = socket.socketpair()
    write_end.setblocking(False)
    previous = signal.set_wakeup_fd(write_end.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        received = read_end.recv(1)
        if received and not block_ended.wait(grace_period()):
            os._exit(128 + received[0])
        read_end.close()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        block_ended.set()
        signal.set_wakeup_fd(previous)
        write_end.close()
