"""Ctrl-C, SIGTERM, SIGHUP and SIGBREAK: the first lets training finish its step, the second exits at once."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Ctrl-C, `kill`, and a closed terminal (on Windows also Ctrl-Break), as far as the system has them."""
GRACE_SECONDS = 20.0
"""Grace period of a process, beside twice its longest step."""
REPEAT_SECONDS = 0.3
"""Time after a signal in which another is taken for the same one, sent twice."""
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


def label(received: signal.Signals) -> str:
    """What a user calls a signal."""
    return "Ctrl-C" if received == signal.SIGINT else received.name


class SignalHandler:
    """A context that records the first of `SIGNALS` in `received` instead of ending the process.

    A second one ends the process at once, except within `REPEAT_SECONDS`, or if it is SIGHUP: when a terminal
    is closed, the shell and the kernel each send one, as `timeout` sends its signal twice.

    Args:
        grace_period: for a process started by torchrun, returns the seconds from the first signal until the
            process exits, whatever it is doing. Such a process ignores a second signal: the terminal and
            torchrun may each send one. It needs a time limit, as it may wait for a process that is gone.
        acknowledge: called with the first signal as soon as it arrives, in a thread of its own, since a
            library call may keep this one busy for seconds.
    """

    def __init__(
        self,
        grace_period: Callable[[], float] | None = None,
        acknowledge: Callable[[signal.Signals], None] = lambda _: None,
    ) -> None:
        self.received: signal.Signals | None = None
        self._grace_period, self._acknowledge = grace_period, acknowledge

    def __enter__(self) -> SignalHandler:
        # Signals that are ignored stay ignored: nohup relies on that.
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._receive) for number in handled}
        self._ended = threading.Event()
        # Not a pipe: before Python 3.12, Windows cannot make one non-blocking.
        self._read_end, self._write_end = socket.socketpair()
        self._write_end.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._write_end.fileno(), warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        signal.set_wakeup_fd(self._previous_fd)
        self._write_end.close()
        self._watcher.join(1)  # or it may meet the end of the interpreter, which aborts the process
        for number, handler in self._previous.items():
            if handler is not None:  # a handler that was not set from Python cannot be restored
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._time = signal.Signals(number), time.monotonic()
        elif self._is_second(number, self._time):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _watch(self) -> None:
        """Act on signals although a library call keeps Python's own handlers waiting, maybe forever."""
        first: float | None = None
        while received := self._read_end.recv(1):
            number = received[0]
            if number not in self._previous:
                continue
            if first is None:
                first = time.monotonic()
                if self._grace_period is not None:
                    seconds = self._grace_period()
                    threading.Thread(target=self._exit_after, args=(seconds, number), daemon=True).start()
                self._acknowledge(signal.Signals(number))
            elif self._is_second(number, first):
                self._exit_after(REPEAT_SECONDS, number)  # `_receive` comes first if it can
        self._read_end.close()

    def _is_second(self, number: int, first: float) -> bool:
        """Whether a signal ends the process, after a first one at this time."""
        repeated = time.monotonic() - first < REPEAT_SECONDS or signal.Signals(number).name == "SIGHUP"
        return self._grace_period is None and not repeated

    def _exit_after(self, seconds: float, number: int) -> None:
        if not self._ended.wait(seconds):
            os._exit(128 + number)
