"""Find the image files of a folder and detect changes to them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from images.exclude import Excluded, ExcludePatterns

RAW_SUFFIXES = frozenset(
    {
        *(".3fr", ".ari", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq"),
        *(".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl"),
        *(".sr2", ".srf", ".srw", ".x3f"),
    }
)
"""Suffixes of camera raw files. Many of these are TIFF files whose first image is a thumbnail."""

IMAGE_SUFFIXES = RAW_SUFFIXES | {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".heic", ".heif", ".hif", ".avif", ".jp2", ".jxl", ".psd"),
}
"""Suffixes of image files. Formats that cannot be decoded are included, so that a folder of HEIC photos is
reported as skipped instead of ignored."""

_SYSTEM_FOLDERS = {
    **dict.fromkeys(["@eadir", ".@__thumb", ".thumbnails", "#snapshot", "@tmp"], "thumbnails or copies"),
    **dict.fromkeys(["__macosx", ".appledouble"], "metadata of macOS"),
    **dict.fromkeys(["#recycle", "@recycle", "$recycle.bin", ".trash", ".trashes"], "deleted files"),
}
"""Folders that file servers, archivers and desktops keep beside photos, in lower case, and their contents."""


@dataclass(frozen=True)
class FolderListing:
    """The image files of a folder.

    Attributes:
        files: names relative to the folder, separated by `/`, sorted. Their suffixes or first bytes are
            those of an image; none has been decoded.
        skipped: (name, reason) of image files and subfolders that cannot be read or are a system's own.
        digest: hex digest that changes if a file is added, removed, renamed, modified or replaced.
        excluded: what the patterns excluded; none of it is in the other attributes.
    """

    files: list[str]
    skipped: list[tuple[str, str]]
    digest: str
    excluded: Excluded


def list_images(
    folder: Path, extra_suffixes: Collection[str] = (), exclude: ExcludePatterns | None = None
) -> FolderListing:
    """List the images of `folder` and its subfolders.

    A file counts as an image if its suffix says so, in any case, or its first bytes do. All other files
    are ignored, and so are names that begin with a dot, except that `system_entry` is reported. Links are
    followed; a folder that is reachable by several paths is visited once.

    Args:
        folder: the folder to scan.
        extra_suffixes: further suffixes to include, in lower case with the dot.
        exclude: patterns of files and folders to ignore.

    Raises:
        OSError: `folder` itself cannot be read.
    """
    suffixes = IMAGE_SUFFIXES.union(extra_suffixes)
    exclude = exclude or ExcludePatterns()
    files: list[str] = []
    skipped: list[tuple[str, str]] = []
    # Hashed on the way: of hundreds of thousands of files only the names are kept.
    digest = hashlib.blake2b(digest_size=16)
    visited: set[tuple[int, int]] = set()
    # Linked folders wait at the left end until all others are done, so that a file that is reachable
    # without a link is listed by that path.
    queue = deque([""])
    while queue:
        parent = queue.pop()
        directory = os.path.join(folder, parent)  # noqa: PTH118 - Path is slow here and below
        try:
            status = os.stat(directory)  # noqa: PTH116
            entries = sorted(os.listdir(directory))  # noqa: PTH208
        except OSError as error:
            if not parent:
                raise
            skipped.append((parent, _reason(error)))
            continue
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders: list[str] = []
        for entry in entries:
            name, path = parent + entry, os.path.join(directory, entry)  # noqa: PTH118
            if reason := system_entry(entry):
                if not exclude.exclude(name, is_folder=os.path.isdir(path)):  # noqa: PTH112
                    skipped.append((name, reason))
                continue
            if entry.startswith("."):
                continue
            try:
                status = os.stat(path)  # noqa: PTH116
                is_folder = stat.S_ISDIR(status.st_mode)
                if not is_folder and not _looks_like_image(path, status, suffixes):
                    continue
                if exclude.exclude(name, is_folder=is_folder):
                    continue
                if is_folder:
                    linked = os.path.islink(path)  # noqa: PTH114
                    (queue.appendleft if linked else subfolders.append)(name + "/")
                elif not stat.S_ISREG(status.st_mode):
                    skipped.append((name, "not a regular file"))
                elif status.st_size == 0:
                    skipped.append((name, "empty file"))
                else:
                    files.append(name)
                    digest.update(file_signature(name, status))
            except OSError as error:
                # A broken link counts as an image by its suffix alone.
                is_image = not isinstance(error, FileNotFoundError) or _suffix(path) in suffixes
                if is_image and not exclude.exclude(name):
                    skipped.append((name, _reason(error)))
        queue.extend(reversed(subfolders))
    return FolderListing(sorted(files), sorted(skipped), digest.hexdigest(), exclude.excluded())


def system_entry(name: str) -> str | None:
    """Why a file or folder of this name is not the user's own but a system's, such as `@eaDir`; else None."""
    name = name.lower()
    if contents := _SYSTEM_FOLDERS.get(name):
        return f"not entered: {contents}"
    if name.startswith("._") and _suffix(name) in IMAGE_SUFFIXES:
        return "metadata of macOS, not an image"
    return "thumbnails of Windows" if name == "thumbs.db" else None


def file_signature(name: str, status: os.stat_result) -> bytes:
    """Bytes that change if a file changes: its name, size and times.

    The change time (ctime) covers what the modification time misses: new permissions and copies that
    preserve times.
    """
    numbers = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return b"%b\0%d %d %d\0" % (os.fsencode(name), *numbers)


def _looks_like_image(path: str, status: os.stat_result, suffixes: set[str]) -> bool:
    if _suffix(path) in suffixes:
        return True
    # Opening a pipe or a device could block forever.
    if not stat.S_ISREG(status.st_mode):
        return False
    with open(path, "rb") as file:  # noqa: PTH123
        return _has_image_header(file.read(16))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122


def _has_image_header(header: bytes) -> bool:
    """Whether these are the first 16 bytes of a JPEG, PNG, GIF, TIFF, WebP or BMP file."""
    if header.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return True
    if header.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return True
    # Texts may begin with "BM" too, but not with the four reserved zeros of a BMP.
    is_bmp = header[:2] == b"BM" and header[6:10] == bytes(4)
    return is_bmp or (header[:4] == b"RIFF" and header[8:12] == b"WEBP")


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
