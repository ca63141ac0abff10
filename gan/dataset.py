"""A folder of images to one uint8 array, decoded once and kept in a cache."""

from __future__ import annotations

import contextlib
import hashlib
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from tqdm import tqdm

from gan import split
from gan.cache import CacheEntry, Decode, Index, Keep
from gan.decoding import DECODER, decode_files
from gan.errors import UserError
from gan.files import replacing
from gan.listing import list_images


@dataclass(frozen=True)
class FaceSet:
    """The images of a folder, decoded.

    Attributes:
        images: uint8 [N, 3, S, S], RGB, read-only; in memory, or mapped from the cache.
        files: names relative to the folder, one for each image, sorted.
        fingerprints: for each image the digest of its pixels, hex; equal images have equal ones.
        digest: hex, of all pixels in their order; equal digests mean equal images.
        skipped: (name, reason) of every file that promised an image and gave none, sorted.
        duplicates: images that equal an earlier one in every pixel; they stay in the set.
        mapped: whether `images` is mapped from disk.
        folder: where the files are, absolute.
        from_cache: whether an earlier call had decoded them.
        held: bool [N], the images that are never to be trained on.
    """

    images: np.ndarray
    files: list[str]
    fingerprints: list[str]
    digest: str
    skipped: list[tuple[str, str]]
    duplicates: int
    mapped: bool
    folder: Path
    from_cache: bool
    held: np.ndarray

    @property
    def trained(self) -> np.ndarray:
        """The images that may be trained on, int64 [T], as rows of `images`."""
        return np.flatnonzero(~self.held)

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
    with replacing(path) as temporary:
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
) -> FaceSet:
    """Decode the images in a folder, or take them from the cache where no file changed.

    The cache keeps, for each folder and size, one array (`.npy`) and one index (`.json`). Their names hold
    a digest of the files' names, sizes and times, so that what is found is right; what is
    outdated is removed when its successor is complete. Where the cache cannot be written, a line on standard
    error says so and the images are kept in memory alone.

    Args:
        folder: holds the images, itself or in folders inside it; `list_images` says what counts.
        size: side S of the images in pixels.
        cache: folder for decoded arrays; made where it is missing.
        workers: processes that decode; 0 decodes in this one.
        memory_share: the array is held in memory where it takes at most this share of the machine's
            (and no more than is free), else mapped from the cache.
        held_out: share of the images that is held out; see `gan.split`.
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
        raise _no_image(folder, listing.left_out)
    limit = memory_limit(memory_share)
    entry = CacheEntry(Path(cache), folder, size, state=f"{listing.digest}, {DECODER}")
    loaded = entry.read(limit)
    from_cache = loaded is not None
    if loaded is None:
        decode = partial(_decode_all, folder, listing.files, size, workers, progress)
        loaded = fill_and_read(entry, decode, len(listing.files), size, limit)
    images, index = loaded
    skipped = sorted([*listing.left_out, *((name, reason) for name, reason in index.skipped)])
    if not index.files:
        raise _no_image(folder, skipped)
    images.flags.writeable = False
    return FaceSet(
        images=images,
        files=index.files,
        fingerprints=index.fingerprints,
        digest=index.digest,
        skipped=skipped,
        duplicates=index.duplicates,
        mapped=isinstance(images, np.memmap),
        folder=folder,
        from_cache=from_cache,
        held=split.held_out(index.fingerprints, held_out),
    )


def memory_limit(share: float) -> int:
    """Bytes that decoded images may take: this share of the machine's memory, but no more than is free."""
    memory = psutil.virtual_memory()
    return int(min(share * memory.total, memory.available))


def fill_and_read(
    entry: CacheEntry, decode: Decode, count: int, size: int, limit: int
) -> tuple[np.ndarray, Index]:
    """Decode into the cache and read from there; where that cannot be, decode into memory.

    Args:
        entry: the place in the cache.
        decode: makes the images.
        count: images that there may be.
        size: side S of the images in pixels.
        limit: bytes of memory that they may take.

    Returns:
        The images, uint8 [N, 3, S, S], and their index.

    Raises:
        UserError: there is room neither in the cache nor in memory.
    """
    try:
        entry.write(count, decode)
        if loaded := entry.read(limit):
            return loaded
        cause = "another process removed them"
    except OSError as error:
        cause = error.strerror or str(error)
    problem = f"cannot keep decoded images in {entry.folder} ({cause})"
    needed = count * 3 * size**2
    if needed > limit:
        raise UserError(
            f"{problem}, and {count:,} of them take {needed / 1e9:.2f} GB, more than the "
            f"{limit / 1e9:.2f} GB of memory allowed; make room there, or name another cache folder"
        )
    print(f"warning: {problem}; they stay in memory and are decoded again at every start", file=sys.stderr)
    images = np.empty((count, 3, size, size), np.uint8)
    index = decode(images.__setitem__)
    return images[: len(index.files)], index


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


def _decode_all(folder: Path, files: list[str], size: int, workers: int, progress: bool, keep: Keep) -> Index:
    used: list[str] = []
    skipped: list[tuple[str, str]] = []
    fingerprints: list[str] = []
    pixels = hashlib.blake2b(digest_size=16)
    paths = [folder / name for name in files]
    with (
        contextlib.closing(decode_files(paths, size, workers)) as decoded,
        tqdm(decoded, "decoding", len(files), unit=" images", disable=not progress) as results,
    ):
        for name, result in zip(files, results, strict=True):
            if isinstance(result, str):
                skipped.append((name, result))
                continue
            keep(len(used), result)
            used.append(name)
            fingerprint = hashlib.blake2b(result, digest_size=16)
            pixels.update(fingerprint.digest())
            fingerprints.append(fingerprint.hexdigest())
    duplicates = len(fingerprints) - len(set(fingerprints))
    return Index(used, skipped, fingerprints, pixels.hexdigest(), duplicates)


def _printable(text: str) -> str:
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
