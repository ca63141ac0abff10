"""Output: streams that never end a program when they cannot be written to, and parts of messages."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path

_CLOSED_PIPE = (errno.EPIPE, errno.EINVAL)
"""Error numbers of a pipe whose reader is gone, the second on Windows."""
_CONTROL = ("Cc", "Cs", "Zl", "Zp")
"""Categories of Unicode: control characters, undecodable bytes, and separators of lines and paragraphs."""


def protect_output() -> None:
    """Keep a dead pipe, a closed terminal or a full disk from raising in `print`, tqdm or at exit.

    The reader of a pipe may end before its writer: Ctrl-C also ends the `tee` of `train_gan.py ... | tee
    log`, and the run still has to be saved.
    """
    sys.stderr = _protect(sys.stderr, lambda error: None)
    # Not to sys.stderr as it is then: `engine.cli.parse` redirects it.
    sys.stdout = _protect(sys.stdout, partial(_report, sys.stderr))


def one_line(text: str) -> str:
    """The text with control characters and line breaks written as escapes.

    The name of a file may contain any; printed as they are, they would break the line or act on the terminal.
    """
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _CONTROL else char
        for char in text
    )


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """The count and its noun, such as "1 photo" or "1,200 photos".

    Args:
        count: not negative.
        noun: in the singular.
        plural: None for the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _protect(stream: io.TextIOBase | None, report: Callable[[OSError], None]) -> io.TextIOBase:
    if stream is None:  # closed by the shell, as in `2>&-`
        return Path(os.devnull).open("w")
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, _Output):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return _Output(stream, report)


def _report(stderr: io.TextIOBase, error: OSError) -> None:
    if error.errno not in _CLOSED_PIPE:
        print(f"warning: standard output is incomplete: {error.strerror or error}", file=stderr)


class _Output(io.TextIOWrapper):
    """A text stream on the file of another, without its errors.

    Args:
        stream: the other; it is kept, because it closes the file when it is deleted.
        report: called with the first error.
    """

    def __init__(self, stream: io.TextIOWrapper, report: Callable[[OSError], None]) -> None:
        raw = _DroppingFile(getattr(stream.buffer, "raw", stream.buffer), report)
        super().__init__(
            raw if stream.write_through else io.BufferedWriter(raw),  # type: ignore[arg-type]
            encoding=stream.encoding,
            # A path with characters that a redirected stream cannot encode must not end the program either.
            errors="backslashreplace",
            line_buffering=True,  # who follows a log sees each line at once, in order with standard error
            write_through=stream.write_through,
        )
        self._stream = stream


class _DroppingFile(io.RawIOBase):
    """A file, opened for writing, that drops what cannot be written."""

    def __init__(self, file: io.RawIOBase, report: Callable[[OSError], None]) -> None:
        self._file = file
        self._report: Callable[[OSError], None] | None = report
        self.name = getattr(file, "name", None)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        rest = memoryview(data)
        try:
            while rest:
                if (written := self._file.write(rest)) is None:
                    # The pipe is full, and another process made it non-blocking.
                    select.select([], [self._file], [])
                rest = rest[written or 0 :]
        except OSError as error:
            report, self._report = self._report, None
            if report:
                report(error)
        return len(data)

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def writable(self) -> bool:
        return True
