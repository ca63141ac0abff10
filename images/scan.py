"""Which files of a folder are images, and whether any of them changed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".raw", ".dng", ".cr2", ".nef", ".arw"),
}
"""Endings that promise an image, those of formats that cannot be read included: a user who has a
folder of HEIC photos wants to hear of them."""


@dataclass(frozen=True)
class FolderListing:
    """The images of a folder.

    Attributes:
        files: names relative to the folder, with `/` between their parts, sorted; all promise an image
            by their ending or their first bytes, none has been decoded.
        skipped: (name, reason) of what promises an image and cannot be read.
        digest: hex; differs where a file was added, removed, renamed, written to or replaced.
    """

    files: list[str]
    skipped: list[tuple[str, str]]
    digest: str


def list_images(folder: Path, also: Collection[str] = ()) -> FolderListing:
    """Find the images in `folder` and the folders in it.

    A file counts as an image where its ending says so, in whatever case, or, with another ending or
    none, its first bytes do; and so does one with an ending of `also` (lower case, with the dot). All other
    files are ignored, and so is every name that begins with a dot. Links are followed; a folder that can be
    reached by several ways is entered once.

    Raises:
        OSError: `folder` itself cannot be read.
    """
    suffixes = IMAGE_SUFFIXES.union(also)
    files: list[str] = []
    skipped: list[tuple[str, str]] = []
    # Of hundreds of thousands of files no more is kept than their names; the rest is digested on the way.
    digest = hashlib.blake2b(digest_size=16)
    entered: set[tuple[int, int]] = set()
    # Linked folders wait at the left end until all others are done, so that a link never
    # decides the name of a file that has a place of its own.
    folders = deque([""])
    while folders:
        parent = folders.pop()
        place = os.path.join(folder, parent)  # noqa: PTH118 - Path is slow here and below
        try:
            status = os.stat(place)  # noqa: PTH116
            entries = sorted(os.listdir(place))  # noqa: PTH208
        except OSError as error:
            if not parent:
                raise
            skipped.append((parent, _reason(error)))
            continue
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        inside: list[str] = []
        for entry in entries:
            if entry.startswith("."):
                continue
            name, path = parent + entry, os.path.join(place, entry)  # noqa: PTH118
            try:
                status = os.stat(path)  # noqa: PTH116
                if stat.S_ISDIR(status.st_mode):
                    linked = os.path.islink(path)  # noqa: PTH114
                    (folders.appendleft if linked else inside.append)(name + "/")
                elif not _promises_image(path, status, suffixes):
                    continue
                elif not stat.S_ISREG(status.st_mode):
                    skipped.append((name, "not a regular file"))
                elif status.st_size == 0:
                    skipped.append((name, "empty file"))
                else:
                    files.append(name)
                    digest.update(file_signature(name, status))
            except OSError as error:
                # A link to nowhere promises no more than any other name.
                if not isinstance(error, FileNotFoundError) or _ending(path) in suffixes:
                    skipped.append((name, _reason(error)))
        folders.extend(reversed(inside))
    return FolderListing(sorted(files), sorted(skipped), digest.hexdigest())


def file_signature(name: str, status: os.stat_result) -> bytes:
    """What tells that a file is as it was.

    The time of the last change of the file's entry (ctime) tells what the time of the last write does
    not: new permissions, or a copy that kept its times.
    """
    numbers = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return b"%b\0%d %d %d\0" % (os.fsencode(name), *numbers)


def _promises_image(path: str, status: os.stat_result, suffixes: set[str]) -> bool:
    if _ending(path) in suffixes:
        return True
    # Opening anything but a file could wait for ever.
    if not stat.S_ISREG(status.st_mode):
        return False
    with open(path, "rb") as file:  # noqa: PTH123
        return _starts_image(file.read(16))


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122


def _starts_image(head: bytes) -> bool:
    """Whether these are the first 16 bytes of a JPEG, PNG, GIF, TIFF, WebP or BMP file."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return True
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return True
    # "BM" alone also begins many a text; the four reserved zeros do not.
    return (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or (head[:2] == b"BM" and head[6:10] == bytes(4))


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
