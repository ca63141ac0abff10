"""Files: written so that a kill at any moment leaves the old one or the new one, looked for, told apart."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import string
from collections.abc import Iterable, Iterator
from pathlib import Path

LONGEST_STEM = 200
"""Bytes of a file's name before what is put to it, such as numbers and an ending; file systems allow 255."""

_MARK_BYTES = 6
"""Random ones that set a temporary name apart; two hex digits each."""


@contextlib.contextmanager
def atomic_write(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success move what was written there over `path`.

    The folder is made where it is missing. After an exception the temporary file is removed and
    `path` is untouched. A durable file is on the disk before it takes its place, so that even a loss of
    power leaves it whole; many small files that can be made again do without, as each has to wait for
    the disk.

    Raises:
        OSError: the folder cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: libraries such as Pillow choose the format by it.
    temporary = path.with_name(f".{shorten_stem(path.stem)}-{secrets.token_hex(_MARK_BYTES)}{path.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_partial_files(paths: Iterable[Path]) -> None:
    """Remove what a kill in the middle of `atomic_write` one of these paths left beside it.

    Nobody may be writing them meanwhile.

    Raises:
        OSError: it cannot be removed.
    """
    names = {(path.parent, f".{shorten_stem(path.stem)}", path.suffix) for path in paths}
    for folder in {folder for folder, _, _ in names}:
        for found in folder.glob(".*"):  # one look, however many paths
            stem, _, mark = found.stem.rpartition("-")
            is_mark = len(mark) == 2 * _MARK_BYTES and set(mark) <= set(string.hexdigits)
            if is_mark and (folder, stem, found.suffix) in names:
                found.unlink(missing_ok=True)


def shorten_stem(stem: str, *, marked: bool = False) -> str:
    """A name that others are made of, cut between two letters where it has more than `LONGEST_STEM` bytes.

    What is cut, or is to be `marked` as it could be taken for another, gets a digest of the whole, so that
    two names that begin alike stay two, whatever their case.
    """
    encoded = os.fsencode(stem)
    if len(encoded) <= LONGEST_STEM and not marked:
        return stem
    digest = hashlib.blake2b(encoded, digest_size=6).hexdigest()
    return f"{encoded[: LONGEST_STEM - 20].decode(errors='ignore')}~{digest}"


def is_file(path: Path) -> bool:
    """Whether there is such a file; none where the system refuses to look, as for a name that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hex; empty for what is no file, or cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
