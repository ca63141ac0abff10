"""A folder of images to one uint8 array, decoded once and kept in a cache."""

from __future__ import annotations

import contextlib
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import UserError
from engine.files import atomic_write
from images.cache import CacheEntry, CacheIndex, DecodeImages, StoreImage, store_images
from images.decode import DECODER, decode_files
from images.holdout import holdout_mask
from images.scan import list_images


@dataclass(frozen=True)
class ImageDataset:
    """The images of a folder, decoded.

    Attributes:
        images: uint8 [N, 3, S, S], RGB, read-only; mapped from the cache, or else in memory.
        files: names relative to the folder, one for each image, sorted.
        fingerprints: uint64 [N], for each image the first 64 bits of the digest of its pixels; equal
            images have equal ones, others the same by chance with 5e-20 a pair.
        digest: hex, of all pixels in their order; equal digests mean equal images.
        skipped: (name, reason) of every file that promised an image and gave none, sorted.
        duplicates: images that equal an earlier one in every pixel; they stay in the set.
        mapped: whether `images` is mapped from disk.
        folder: where the files are, absolute.
        from_cache: whether an earlier call had decoded them.
        held_out: bool [N], the images that are never to be trained on.
    """

    images: np.ndarray
    files: list[str]
    fingerprints: NDArray[np.uint64]
    digest: str
    skipped: list[tuple[str, str]]
    duplicates: int
    mapped: bool
    folder: Path
    from_cache: bool
    held_out: np.ndarray

    @property
    def training_indices(self) -> np.ndarray:
        """The images that may be trained on, int64 [T], as rows of `images`."""
        return np.flatnonzero(~self.held_out)

    def write_skipped(self, path: str | Path) -> None:
        """Write the files that were left out: see `write_skipped`."""
        write_skipped(path, self.skipped)


def write_skipped(path: str | Path, skipped: Iterable[tuple[str, str]]) -> None:
    r"""Write what was left out, (name, reason): a line each, name, tab, reason; UTF-8.

    What UTF-8 or a line cannot hold is written as an escape, such as `\xff`, `\t` or `\n`.

    Raises:
        OSError: the file cannot be written.
    """
    lines = [f"{_printable(name)}\t{_printable(reason)}\n" for name, reason in skipped]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def load_folder(
    folder: str | Path,
    size: int,
    *,
    cache: str | Path,
    workers: int,
    memory_share: float = 0.25,
    held_out: float = 0.0,
    progress: bool = True,
) -> ImageDataset:
    """DecodeImages the images in a folder, or take them from the cache where no file changed.

    The cache keeps, for each folder and size, one array (`.npy`) and one index (`.json`). Their names hold
    a digest of the files' names, sizes and times, so that what is found is right; what is
    outdated is removed when its successor is complete. The array is mapped from there, so that hundreds of
    thousands of images take no more memory than a few. Where the cache cannot be written, a line on
    standard error says so and the images are kept in memory alone.

    Args:
        folder: holds the images, itself or in folders inside it; `list_images` says what counts.
        size: side S of the images in pixels.
        cache: folder for decoded arrays; made where it is missing.
        workers: processes that decode; 0 decodes in this one.
        memory_share: of the machine's memory, that images may take where they cannot be kept in the cache;
            never more than is free.
        held_out: share of the images that is held out; see `images.holdout`.
        progress: whether to show a progress bar while decoding.

    Raises:
        UserError: the folder is missing, a file, or not readable; it has no usable image; or the images
            neither fit the share of memory nor the cache; or a decoding process died.
    """
    folder = _existing(Path(folder))
    try:
        listing = list_images(folder)
    except OSError as error:
        raise UserError(
            f"cannot read the folder {folder} ({error.strerror}); allow it, or give another"
        ) from None
    if not listing.files:
        raise _no_image(folder, listing.skipped)
    entry = CacheEntry(Path(cache), folder, size, state=f"{listing.digest}, {DECODER}")
    loaded = entry.read()
    from_cache = loaded is not None
    if loaded is None:
        decode = partial(_decode_all, folder, listing.files, size, workers, progress)
        loaded = decode_into_cache(entry, decode, len(listing.files), size, memory_share)
    images, index = loaded
    skipped = sorted([*listing.skipped, *index.skipped.items()])
    if not len(images):
        raise _no_image(folder, skipped)
    images.flags.writeable = False
    return ImageDataset(
        images=images,
        files=[name for name in listing.files if name not in index.skipped],
        fingerprints=index.fingerprints,
        digest=index.digest,
        skipped=skipped,
        duplicates=len(images) - len(np.unique(index.fingerprints)),
        mapped=isinstance(images, np.memmap),
        folder=folder,
        from_cache=from_cache,
        held_out=holdout_mask(index.fingerprints, held_out),
    )


def decode_into_cache(
    entry: CacheEntry, decode: DecodeImages, count: int, size: int, memory_share: float
) -> tuple[np.ndarray, CacheIndex]:
    """DecodeImages into the cache and read from there; where that cannot be, decode into memory.

    Args:
        entry: the place in the cache.
        decode: makes the images.
        count: images that there may be.
        size: side S of the images in pixels.
        memory_share: of the machine's memory, that they may take where the cache cannot keep them.

    Returns:
        The images, uint8 [N, 3, S, S], and their index.

    Raises:
        UserError: there is room neither in the cache nor in memory.
    """
    try:
        entry.write(count, decode)
        if loaded := entry.read():
            return loaded
        cause = "another process removed them"
    except OSError as error:
        cause = error.strerror or str(error)
    problem = f"cannot keep decoded images in {entry.folder} ({cause})"
    memory = psutil.virtual_memory()
    limit = min(memory_share * memory.total, memory.available)
    needed = count * 3 * size**2
    if needed > limit:
        raise UserError(
            f"{problem}, and {count:,} of them take {needed / 1e9:.2f} GB, more than the "
            f"{limit / 1e9:.2f} GB of memory allowed; make room there, or name another cache folder"
        )
    print(f"warning: {problem}; they stay in memory and are decoded again at every start", file=sys.stderr)
    images = np.empty((count, 3, size, size), np.uint8)
    index = decode(images.__setitem__)
    return images[: len(index.fingerprints)], index


def _existing(folder: Path) -> Path:
    try:
        status = folder.stat()
    except OSError as error:
        raise UserError(f"no folder {folder} ({error.strerror}); give one that holds face images") from None
    if not stat.S_ISDIR(status.st_mode):
        raise UserError(f"{folder} is a file; give the folder that holds the face images")
    return folder.resolve()


def _no_image(folder: Path, skipped: list[tuple[str, str]]) -> UserError:
    if not skipped:
        return UserError(f"no image in {folder}; give a folder that holds face images")
    name, reason = skipped[0]
    return UserError(
        f"no usable image in {folder}: {len(skipped):,} left out, the first is {_printable(name)}: {reason}"
    )


def _decode_all(
    folder: Path, files: list[str], size: int, workers: int, progress: bool, keep: StoreImage
) -> CacheIndex:
    with (
        contextlib.closing(decode_files(files, size, workers, folder)) as decoded,
        tqdm(decoded, "decoding", len(files), unit=" images", disable=not progress) as results,
    ):
        return store_images(zip(files, results, strict=True), keep)


def _printable(text: str) -> str:
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
