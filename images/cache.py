"""Decoded images on disk: one array and one index for each folder, image size and state of its files."""

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
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.files import atomic_write

PARTIAL_FILE_MAX_AGE = 3600
"""Age in seconds at which a partially written file counts as abandoned and is removed."""


@dataclass(frozen=True)
class CacheIndex:
    """What the cache stores about an array of images besides the pixels.

    Attributes:
        skipped: reason by name, for each file that gave no image.
        fingerprints: uint64 [N], the first 64 bits of the digest of each image's pixels, in order.
        digest: hex digest of all pixels in order.
        extra: JSON values that the creator of the images stores with them.
    """

    skipped: dict[str, str]
    fingerprints: NDArray[np.uint64]
    digest: str
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Serialise, with 16 hexadecimal digits for each fingerprint."""
        fingerprints = self.fingerprints.astype(">u8").tobytes().hex()
        values = {"skipped": self.skipped, "fingerprints": fingerprints, "digest": self.digest}
        return json.dumps(values | {"facts": self.extra})  # the key of existing caches

    @classmethod
    def from_json(cls, text: str) -> CacheIndex:
        """Parse the output of `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        values = json.loads(text)
        fingerprints = np.frombuffer(bytes.fromhex(values["fingerprints"]), ">u8").astype(np.uint64)
        return cls(dict(values["skipped"]), fingerprints, values["digest"], dict(values["facts"]))


StoreImage = Callable[[int, np.ndarray], object]
"""Takes the row and the pixels, uint8 [3, S, S], of one image; called for rows 0, 1, 2, ..."""

DecodeImages = Callable[[StoreImage], CacheIndex]
"""Passes each image to the given function and returns the index of all images."""


def store_images(results: Iterable[tuple[str, np.ndarray | str]], store: StoreImage) -> CacheIndex:
    """Store all images among decoding results and index them.

    Args:
        results: for each file its name and its image, uint8 [3, S, S], or the reason why there is none.
        store: receives the images.
    """
    skipped: dict[str, str] = {}
    fingerprints = array("Q")
    pixels = hashlib.blake2b(digest_size=16)
    for name, result in results:
        if isinstance(result, str):
            skipped[name] = result
            continue
        store(len(fingerprints), result)
        digest = hashlib.blake2b(result, digest_size=16).digest()
        pixels.update(digest)
        fingerprints.append(int.from_bytes(digest[:8], "big"))
    return CacheIndex(skipped, np.array(fingerprints, np.uint64), pixels.hexdigest())


class CacheEntry:
    """The cached images of one folder at one size, for one state of its files.

    An entry consists of two files, `NAME-FOLDER-STATE-SIZEpx.npy` and `.json`. FOLDER is a digest of the
    folder's path, STATE a digest of everything that determines the pixels. All processes that write an
    entry write the same content, so concurrent writers do not conflict.

    Args:
        cache: the folder of all entries; created by the first write.
        folder: absolute path of the image folder.
        size: side S of the images in pixels.
        state: identifies the state of the folder's files and the decoder.
        exclude: patterns of files that are left out.
        content: what is made of the files, such as `face crops`; empty for the images themselves. An entry
            outdates only those with the same patterns and content.
    """

    def __init__(
        self,
        cache: Path,
        folder: Path,
        size: int,
        state: str,
        exclude: Collection[str] = (),
        content: str = "",
    ) -> None:
        self.folder = cache
        name = re.sub(r"\W+", "-", folder.name)[:32]
        parts = [folder, *sorted({*exclude}), *([f"\0{content}"] if content else [])]
        source = b"\0".join(map(os.fsencode, parts))
        self._folder_prefix = f"{name}-{_short_digest(source)}-"
        self._state_prefix = f"{self._folder_prefix}{_short_digest(state.encode())}-"
        self._array_path = cache / f"{self._state_prefix}{size}px.npy"
        self._index_path = self._array_path.with_suffix(".json")
        self._size = size

    def read(self) -> tuple[np.memmap, CacheIndex] | None:
        """Return the memory-mapped images, uint8 [N, 3, S, S], and their index; None if missing or damaged.

        The operating system keeps the used pages in memory and shares them between processes. Gathering a
        batch is about as fast as from an array in memory.
        """
        try:
            index = CacheIndex.from_json(self._index_path.read_text(encoding="utf-8"))
            images = np.load(self._array_path, mmap_mode="r")
        except (OSError, ValueError, TypeError, KeyError, EOFError):
            return None
        complete = images.dtype == np.uint8 and images.shape == self._shape(len(index.fingerprints))
        return (images, index) if complete else None

    def write(self, max_images: int, decode: DecodeImages) -> None:
        """Write the entry, then remove the entries of earlier states of the folder.

        Images are written one by one, so memory use does not grow with their number. They are written
        instead of mapped because a full disk raises an error in a write and kills the process in a map.

        Args:
            max_images: upper bound of the number of images.
            decode: decodes the images.

        Raises:
            OSError: the cache is not writable, or the disk is or would become full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < max_images * 3 * self._size**2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._remove_abandoned()
        with atomic_write(self._array_path) as temporary, temporary.open("wb") as file:
            self._write_header(file, max_images)
            index = decode(lambda row, image: file.write(image))
            file.seek(0)
            self._write_header(file, len(index.fingerprints))
        with atomic_write(self._index_path) as temporary:
            temporary.write_text(index.to_json(), encoding="utf-8")
        self._remove_outdated()

    def _shape(self, count: int) -> tuple[int, int, int, int]:
        return count, 3, self._size, self._size

    def _write_header(self, file: BinaryIO, count: int) -> None:
        # NumPy pads the header, so the first dimension can be overwritten by one of any length.
        header = {"descr": "|u1", "fortran_order": False, "shape": self._shape(count)}
        np.lib.format.write_array_header_1_0(file, header)

    def _remove_outdated(self) -> None:
        # .json sorts before .npy: an array without its index is never read.
        for path in sorted(self.folder.glob(f"{self._folder_prefix}*")):
            if not path.name.startswith(self._state_prefix):
                _remove(path)

    def _remove_abandoned(self) -> None:
        """Remove partial files of killed processes; a running process has modified its files recently."""
        for path in self.folder.glob(f".{self._folder_prefix}*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > PARTIAL_FILE_MAX_AGE:
                    _remove(path)


def _remove(path: Path) -> None:
    # Another process may have removed it already or, on Windows, may still be reading it.
    with contextlib.suppress(OSError):
        path.unlink()


def _short_digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
