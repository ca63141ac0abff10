"""CSV tables: written atomically, read with one-line errors."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    """Open a CSV in UTF-8, with or without a byte order mark, for `csv.reader` or `csv.DictReader`.

    Bytes that are not UTF-8 are decoded as by `os.fsdecode`, so that files with such names are found.

    Raises:
        UserError: the file cannot be read, or the block raises `csv.Error`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV: {error}") from None
