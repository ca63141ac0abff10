"""CSV tables: written atomically, read with one-line errors."""

from __future__ import annotations

import csv
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TextIO

from engine.errors import UserError
from engine.files import atomic_write


def write_csv(path: str | Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV in UTF-8, with characters that UTF-8 cannot encode (undecodable file names) escaped.

    Raises:
        OSError: the file cannot be written; an existing one is unchanged.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


@contextmanager
def open_csv(path: Path) -> Iterator[TextIO]:
    """Open a CSV in UTF-8 or UTF-16, with or without a byte order mark, for `csv.reader` or `csv.DictReader`.

    Bytes that are not UTF-8 are decoded as by `os.fsdecode`, so that files with such names are found. The
    text can be read again after `seek(0)`, even from a pipe.

    Raises:
        UserError: the file cannot be read, or the block raises `csv.Error`.
    """
    try:
        content = path.read_bytes()
        encoding = _encoding(content)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
        with TextIOWrapper(BytesIO(content), encoding, errors, newline="") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV: {error}") from None


def _encoding(content: bytes) -> str:
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    # A header begins with an ASCII character, of which UTF-16 makes a zero byte and another.
    if content[:1] == b"\0":
        return "utf-16-be"
    return "utf-16-le" if content[1:2] == b"\0" else "utf-8-sig"
