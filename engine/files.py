"""Files: atomic writes, safe names, digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import string
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_STEM_BYTES = 200
"""Limit on a file name before numbers and an extension are added to it; file systems allow 255."""

REPLACES_OPEN_FILES = os.name != "nt"
"""Whether the system replaces and removes files that are open or mapped. Windows does not."""
_PATIENCE = 5.0
"""Seconds to wait for another process to close a file that is to be replaced."""
_TOKEN_BYTES = 6
"""Random bytes in a temporary file's name, two hex digits each."""


@contextlib.contextmanager
def atomic_write(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success, move the file written there to `path`.

    Creates the folder if it is missing. After an exception, the temporary file is removed and `path` is
    unchanged.

    Args:
        path: the file to write.
        durable: flush the file to disk before moving it, so that it also survives a power failure. Without
            this, many small files that can be made again are written much faster.

    Raises:
        OSError: the folder cannot be created or written to, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keep the extension: libraries such as Pillow choose the format by it.
    temporary = path.with_name(f".{shorten_stem(path.stem)}-{secrets.token_hex(_TOKEN_BYTES)}{path.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
        _replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _replace(source: Path, target: Path) -> None:
    start = time.monotonic()
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            # On Windows, another process may be reading the target, such as sample.py a best.pt.
            if REPLACES_OPEN_FILES or time.monotonic() - start > _PATIENCE:
                raise
        time.sleep(0.05)


def check_writable(path: Path) -> None:
    """Check that a file can be written, before the work whose result it is to contain. Creates its folder.

    Raises:
        OSError: the folder cannot be created or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def check_creatable(folder: Path) -> None:
    """Check that a folder exists or can be created, and can be written to. Creates nothing.

    Raises:
        OSError: it, or the nearest folder above that exists, is a file or cannot be written to.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(existing, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def remove_partial_files(paths: Iterable[Path]) -> None:
    """Remove the temporary files that an interrupted `atomic_write` to any of these paths left behind.

    No other process may be writing these files.

    Raises:
        OSError: a file cannot be removed.
    """
    names = {(path.parent, f".{shorten_stem(path.stem)}", path.suffix) for path in paths}
    for folder in {folder for folder, _, _ in names}:
        for file in folder.glob(".*"):  # list the folder once, however many paths
            stem, _, token = file.stem.rpartition("-")
            is_token = len(token) == 2 * _TOKEN_BYTES and set(token) <= set(string.hexdigits)
            if is_token and (folder, stem, file.suffix) in names:
                file.unlink(missing_ok=True)


def shorten_stem(stem: str, *, marked: bool = False) -> str:
    """A file name's stem, cut between two characters if it is longer than `MAX_STEM_BYTES`.

    A stem that is cut, or `marked` because it could be mistaken for another, gets a digest of the whole stem.
    So two stems that start alike stay different, also on file systems that ignore case.
    """
    encoded = os.fsencode(stem)
    if len(encoded) <= MAX_STEM_BYTES and not marked:
        return stem
    digest = hashlib.blake2b(encoded, digest_size=6).hexdigest()
    return f"{encoded[: MAX_STEM_BYTES - 20].decode(errors='ignore')}~{digest}"


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False if the system refuses to check, as for a name that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """As `is_file`, but whether `path` is a folder."""
    try:
        return path.is_dir()
    except OSError:
        return False


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex; empty if it is not a file or cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
