"""Load a folder of images as one uint8 array, decoded once and cached."""

from __future__ import annotations

import contextlib
import stat
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import atomic_write
from engine.progress import ProgressBar
from images.cache import CacheEntry, CacheIndex, DecodeImages, StoreImage, store_images
from images.decode import DECODER, became_readable, decode_files
from images.exclude import Excluded, ExcludePatterns
from images.holdout import holdout_mask, split_keys
from images.near_duplicates import VERSION as NEAR_DUPLICATES_VERSION
from images.near_duplicates import grey_cells, near_duplicate_groups
from images.scan import list_images


@dataclass(frozen=True)
class ImageDataset:
    """The decoded images of a folder.

    Attributes:
        images: uint8 [N, 3, S, S], RGB, read-only; memory-mapped from the cache or in memory.
        files: name of each image relative to the folder, sorted.
        fingerprints: uint64 [N], the first 64 bits of the digest of each image's pixels. Equal images have
            equal fingerprints; two different images share one with a probability of 5e-20.
        digest: hex digest of all pixels in order; equal digests mean equal images.
        skipped: (name, reason) of each file that should be an image but gave none, sorted.
        duplicates: number of images whose pixels equal those of an earlier one; they stay in the dataset.
        mapped: whether `images` is memory-mapped.
        folder: absolute path of the folder.
        from_cache: whether an earlier call had decoded the images.
        held_out: bool [N], the images that are never trained on.
        split_keys: uint64 [N], what decides about `held_out`: the fingerprints, but one for near-duplicates.
        near_duplicates: number of images that have near-duplicates; None if these were not looked for.
        excluded: what the patterns excluded.
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
    split_keys: NDArray[np.uint64]
    near_duplicates: int | None
    excluded: Excluded

    @property
    def training_indices(self) -> np.ndarray:
        """Rows of the images that may be trained on, int64 [T]."""
        return np.flatnonzero(~self.held_out)

    def write_skipped(self, path: str | Path) -> None:
        """Write the skipped files; see `write_skipped`."""
        write_skipped(path, self.skipped)

    def notes(self) -> list[str]:
        """Lines about files that give no image: the first that was skipped, and those that were excluded."""
        first = [
            f"the first skipped: {_escape(name)}: {_escape(reason)}" for name, reason in self.skipped[:1]
        ]
        more = "; all are in the run's skipped.txt" * (len(self.skipped) > 1)
        return [*(f"{line}{more}" for line in first), *self.excluded.lines()]


def write_skipped(path: str | Path, skipped: Iterable[tuple[str, str]]) -> None:
    r"""Write each (name, reason) as a line of name, tab and reason in UTF-8.

    Tabs, line breaks and bytes that are not UTF-8 are escaped, as `\t`, `\n` or `\xff`.

    Raises:
        OSError: the file cannot be written.
    """
    lines = [f"{_escape(name)}\t{_escape(reason)}\n" for name, reason in skipped]
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
    group_near_duplicates: bool = True,
    exclude: Collection[str] = (),
    progress: bool = True,
) -> ImageDataset:
    """Decode the images of a folder, or read them from the cache if no file has changed.

    For each folder and size the cache contains one array (`.npy`) and one index (`.json`), named after a
    digest of the files' names, sizes and times. A new entry replaces outdated ones. The array is
    memory-mapped, so memory use does not grow with the number of images. If the cache is not writable, a
    warning is printed to standard error and the images are kept in memory.

    Args:
        folder: contains the images, directly or in subfolders; see `list_images`.
        size: side S of the images in pixels.
        cache: folder for decoded arrays; created if missing.
        workers: number of decoding processes; 0 decodes in this process.
        memory_share: largest share of the machine's memory for images that cannot be cached; never more
            than the free memory.
        held_out: share of the images to hold out; see `images.holdout`.
        group_near_duplicates: whether near-duplicates are on the same side of the split. False gives the
            split of runs that an earlier version started.
        exclude: patterns of files and folders to leave out; see `images.exclude`.
        progress: whether to show a progress bar while decoding.

    Raises:
        UserError: the folder is missing, a file, not readable or without a usable image; the images fit
            neither the cache nor the allowed memory; or a decoding process died.
    """
    folder = _resolve_folder(Path(folder))
    try:
        listing = list_images(folder, exclude=ExcludePatterns(exclude))
    except OSError as error:
        raise UserError(
            f"cannot read the folder {folder} ({error.strerror}); make it readable or give another"
        ) from None
    if not listing.files:
        raise _no_image_error(folder, listing.skipped, listing.excluded)
    state = f"{listing.digest}, {DECODER}, {NEAR_DUPLICATES_VERSION}"
    entry = CacheEntry(Path(cache), folder, size, state, exclude)
    cached = read_from_cache(entry, folder)
    decode = partial(_decode_all, folder, listing.files, size, workers, progress)
    images, index = cached or decode_into_cache(entry, decode, len(listing.files), size, memory_share)
    skipped = sorted([*listing.skipped, *index.skipped.items()])
    if not len(images):
        raise _no_image_error(folder, skipped, listing.excluded)
    images.flags.writeable = False
    groups = index.extra["near_duplicates"] if group_near_duplicates else []
    keys = split_keys(index.fingerprints, groups)
    return ImageDataset(
        images=images,
        files=[name for name in listing.files if name not in index.skipped],
        fingerprints=index.fingerprints,
        digest=index.digest,
        skipped=skipped,
        duplicates=len(images) - len(np.unique(index.fingerprints)),
        mapped=isinstance(images, np.memmap),
        folder=folder,
        from_cache=cached is not None,
        held_out=holdout_mask(keys, held_out),
        split_keys=keys,
        near_duplicates=sum(map(len, groups)) if group_near_duplicates else None,
        excluded=listing.excluded,
    )


def read_from_cache(entry: CacheEntry, folder: Path) -> tuple[np.ndarray, CacheIndex] | None:
    """Map images from the cache.

    Args:
        entry: the cache entry to read.
        folder: the folder of the image files.

    Returns:
        The images, uint8 [N, 3, S, S], and their index; None if they are missing or damaged, or lack a file
        that could not be read then and can now.
    """
    cached = entry.read()
    if cached and any(became_readable(folder / name, reason) for name, reason in cached[1].skipped.items()):
        return None
    return cached


def decode_into_cache(
    entry: CacheEntry, decode: DecodeImages, max_images: int, size: int, memory_share: float
) -> tuple[np.ndarray, CacheIndex]:
    """Decode images into the cache and map them from there, or into memory if the cache cannot be written.

    Args:
        entry: the cache entry to write.
        decode: decodes the images.
        max_images: upper bound of the number of images.
        size: side S of the images in pixels.
        memory_share: largest share of the machine's memory for images that cannot be cached.

    Returns:
        The images, uint8 [N, 3, S, S], and their index.

    Raises:
        UserError: the images fit neither the cache nor the allowed memory.
    """
    try:
        entry.write(max_images, decode)
        if cached := entry.read():
            return cached
        cause = "another process removed them"
    except OSError as error:
        cause = error.strerror or str(error)
    problem = f"cannot write decoded images to {entry.folder} ({cause})"
    memory = psutil.virtual_memory()
    limit = min(memory_share * memory.total, memory.available)
    needed = max_images * 3 * size**2
    if needed > limit:
        raise UserError(
            f"{problem}, and {max_images:,} images need {needed / 1e9:.2f} GB, more than the "
            f"{limit / 1e9:.2f} GB of memory allowed; free disk space there, or give another cache folder"
        )
    print(f"warning: {problem}; they stay in memory and are decoded again at every start", file=sys.stderr)
    images = np.empty((max_images, 3, size, size), np.uint8)
    index = decode(images.__setitem__)
    return images[: len(index.fingerprints)], index


def _resolve_folder(folder: Path) -> Path:
    try:
        status = folder.stat()
    except OSError as error:
        raise UserError(f"no folder {folder} ({error.strerror}); give a folder of face images") from None
    if not stat.S_ISDIR(status.st_mode):
        raise UserError(f"{folder} is a file; give a folder of face images")
    return folder.resolve()


def _no_image_error(folder: Path, skipped: list[tuple[str, str]], excluded: Excluded) -> UserError:
    exclusion = "".join(f"; {line}" for line in excluded.lines())
    if not skipped:
        return UserError(f"no image in {folder}{exclusion or '; give a folder of face images'}")
    name, reason = skipped[0]
    return UserError(
        f"no usable image in {folder}: {len(skipped):,} skipped, such as {_escape(name)}: {reason}{exclusion}"
    )


def _decode_all(
    folder: Path, files: list[str], size: int, workers: int, progress: bool, store: StoreImage
) -> CacheIndex:
    cells: list[np.ndarray] = []

    def store_with_cells(row: int, image: np.ndarray) -> None:
        store(row, image)
        cells.append(grey_cells(image))

    with (
        contextlib.closing(decode_files(files, size, workers, folder)) as decoded,
        ProgressBar(decoded, "decoding", len(files), unit=" images", disable=not progress) as results,
    ):
        index = store_images(zip(files, results, strict=True), store_with_cells)
    return replace(index, extra={"near_duplicates": near_duplicate_groups(cells)})


def _escape(text: str) -> str:
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
