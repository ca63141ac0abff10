"""Decoded images kept on disk: an array and its index, right for one state of one folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.files import atomic_write

LEFTOVER_AGE = 3600
"""Seconds after which a half-written file, which nothing writes to any more, is removed."""


@dataclass(frozen=True)
class CacheIndex:
    """What is known of an array of images beside its pixels.

    Attributes:
        skipped: reasons of the files that gave no image, by their names.
        fingerprints: uint64 [N], for each image, in order, the first 64 bits of the digest of its pixels.
        digest: hex, of all pixels in order.
        extra: what else whoever made the images wants to know again, as JSON has it.
    """

    skipped: dict[str, str]
    fingerprints: NDArray[np.uint64]
    digest: str
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """As text, in which the fingerprints are 16 hexadecimal digits each."""
        prints = self.fingerprints.astype(">u8").tobytes().hex()
        return json.dumps(asdict(self) | {"fingerprints": prints})

    @classmethod
    def from_json(cls, text: str) -> CacheIndex:
        """What `to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
        values = json.loads(text)
        prints = np.frombuffer(bytes.fromhex(values["fingerprints"]), ">u8").astype(np.uint64)
        return cls(dict(values["skipped"]), prints, values["digest"], dict(values["extra"]))


StoreImage = Callable[[int, np.ndarray], object]
"""Takes the row and the pixels, uint8 [3, S, S], of one image; called for rows 0, 1, 2, ..."""

DecodeImages = Callable[[StoreImage], CacheIndex]
"""Hands each image on to be kept, and returns the index of them all."""


def store_images(results: Iterable[tuple[str, np.ndarray | str]], keep: StoreImage) -> CacheIndex:
    """StoreImage the images among what reading files gave, and make their index.

    Args:
        results: of each file its name, and its image, uint8 [3, S, S], or why there is none.
        keep: takes the images.
    """
    skipped: dict[str, str] = {}
    fingerprints = array("Q")
    pixels = hashlib.blake2b(digest_size=16)
    for name, result in results:
        if isinstance(result, str):
            skipped[name] = result
            continue
        keep(len(fingerprints), result)
        digest = hashlib.blake2b(result, digest_size=16).digest()
        pixels.update(digest)
        fingerprints.append(int.from_bytes(digest[:8], "big"))
    return CacheIndex(skipped, np.array(fingerprints, np.uint64), pixels.hexdigest())


class CacheEntry:
    """The place in a cache of one folder's images at one size, in one state of its files.

    An entry is two files, `NAME-FOLDER-STATE-SIZEpx.npy` and `.json`, where FOLDER is a digest of the
    folder's path and STATE one of everything that the pixels follow from. So whoever writes an
    entry writes the same, and processes that write at once do not disturb each other.

    Args:
        cache: the folder of all entries; made at the first write.
        folder: the images' folder, absolute.
        size: side S of the images in pixels.
        state: names the state of the folder's files and the way they are decoded.
    """

    def __init__(self, cache: Path, folder: Path, size: int, state: str) -> None:
        self.folder = cache
        name = re.sub(r"\W+", "-", folder.name)[:32]
        self._family = f"{name}-{_short_digest(os.fsencode(folder))}-"
        self._state = self._family + _short_digest(state.encode())
        self._array = cache / f"{self._state}-{size}px.npy"
        self._index = self._array.with_suffix(".json")
        self._size = size

    def read(self) -> tuple[np.memmap, CacheIndex] | None:
        """The images, uint8 [N, 3, S, S], mapped, and their index; None where they are not here or not whole.

        The system keeps in memory what is used of the file, and all processes that map it share that. A
        batch is gathered about as fast as from an array of one's own.
        """
        try:
            index = CacheIndex.from_json(self._index.read_text(encoding="utf-8"))
            shape = (len(index.fingerprints), 3, self._size, self._size)
            images = np.load(self._array, mmap_mode="r")
        except (OSError, ValueError, TypeError, KeyError, EOFError):
            return None
        return (images, index) if images.shape == shape and images.dtype == np.uint8 else None

    def write(self, most: int, decode: DecodeImages) -> None:
        """Make the entry, then remove those of earlier states of the folder.

        The images go to the file one by one: this takes no memory that grows with their number. They are
        written, not mapped, because a full disk is an error for a write and the end of the process for a map.

        Args:
            most: images that there may be.
            decode: makes the images.

        Raises:
            OSError: the cache cannot be written, or the disk is or would become full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < most * 3 * self._size**2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._remove_leftovers()
        with atomic_write(self._array) as temporary, temporary.open("wb") as file:
            self._write_header(file, most)
            index = decode(lambda row, image: file.write(image))
            file.seek(0)
            self._write_header(file, len(index.fingerprints))
        with atomic_write(self._index) as temporary:
            temporary.write_text(index.to_json(), encoding="utf-8")
        self._remove_outdated()

    def _write_header(self, file: BinaryIO, count: int) -> None:
        # numpy leaves room in the header for a first dimension of any length.
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, self._size, self._size)}
        np.lib.format.write_array_header_1_0(file, header)

    def _remove_outdated(self) -> None:
        # The index first: without it, what is left of an entry is not taken for one.
        for path in sorted(self.folder.glob(f"{self._family}*")):
            if not path.name.startswith(f"{self._state}-"):
                _remove(path)

    def _remove_leftovers(self) -> None:
        """Remove what processes that were killed have left; those at work wrote a moment ago."""
        for path in self.folder.glob(f".{self._family}*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > LEFTOVER_AGE:
                    _remove(path)


def _remove(path: Path) -> None:
    # Another process may have been faster or, on Windows, may still be reading.
    with contextlib.suppress(OSError):
        path.unlink()


def _short_digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
