"""Progress bars: they move in a terminal, and are a plain line now and then in a redirected log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

LOG_SECONDS = 60.0
"""Time between lines in a log."""
LINE = "{desc}: {n_fmt} of {total_fmt}{unit} after {elapsed}, {remaining} left{postfix}"


class ProgressBar(tqdm):
    """A bar of tqdm if standard error is a terminal, otherwise a line every `LOG_SECONDS`.

    What takes less time writes no line.

    Args:
        arguments: those of `tqdm`.
        options: those of `tqdm`.

    Attributes:
        is_log: whether it writes lines.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.is_log = not sys.stderr.isatty()
        self._last_line = time.monotonic()
        if self.is_log:
            # miniters: else tqdm would look at the clock too rarely once steps become slower.
            options |= {"bar_format": LINE, "mininterval": LOG_SECONDS, "miniters": 1, "delay": LOG_SECONDS}
        super().__init__(*arguments, **options)

    def log_line(self) -> None:
        """Write a line now, if these are lines."""
        if self.is_log and not self.disable:
            self._last_line = time.monotonic()
            print(str(self), file=self.fp, flush=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time that this block takes out of the elapsed time, and so out of the estimates."""
        start = time.time()
        yield
        if not self.disable:
            passed = time.time() - start
            self.start_t += passed
            self.last_print_t += passed

    def refresh(self, *arguments: Any, **options: Any) -> bool | None:
        """Draw the bar again, or write a line if it is time for one."""
        if not self.is_log:
            return super().refresh(*arguments, **options)
        if time.monotonic() - self._last_line >= LOG_SECONDS:
            self.log_line()
        return None

    def clear(self, *arguments: Any, **options: Any) -> None:
        """Clear the bar; a line stays."""
        if not self.is_log:
            super().clear(*arguments, **options)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.is_log:
            self.leave = False  # or tqdm would end its line
        super().close()

    def display(self, msg: str | None = None, pos: int | None = None) -> bool | None:
        """Draw the bar; nothing is drawn in a log."""
        return None if self.is_log else super().display(msg, pos)
