"""CSV tables: written whole or not at all, and read with one line for what is wrong with a file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from engine.errors import UserError
from engine.files import atomic_write


def write_csv(path: str | Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV in UTF-8. What that cannot hold, such as a file's name in another code, becomes an escape.

    Raises:
        OSError: it cannot be written; an earlier one is untouched.
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
    """A CSV in UTF-8, with or without a byte order mark, for `csv.reader` or `csv.DictReader` in this block.

    Bytes that are not UTF-8 become what `os.fsdecode` makes of them, so that files named in another code are
    found.

    Raises:
        UserError: the file cannot be read, or the block finds that it is no CSV.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise UserError(f"{path} is no CSV: {error}") from None
