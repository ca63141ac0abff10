"""Annotated photos to tiles: each face with room around it, decoded once, small and in memory.

A tile is a square, `TILE` times the longer side of its landmarks' box: enough for every crop that a jittered
box, a turn and a change of scale ask for. Training cuts its crops out of tiles, on the device.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import UserError
from engine.worker_pool import parallel_map
from faces.data import TrainingData
from faces.landmarks.annotations import Annotations
from faces.landmarks.crops import ENLARGE, boxes_of, cut, inside, squares_of, to_fractions
from images.cache import CacheEntry, CacheIndex, StoreImage, store_images
from images.dataset import decode_into_cache
from images.decode import DECODER, UnusableImageError, decode_full
from images.scan import file_signature

TILE = 2.1
"""Side of a tile over the longer side of its landmarks' box."""
FURTHEST = 2.0
"""Landmarks that reach over more than so many times the longer side of their image are a slip in a table; no
memory would hold what is cut out for some of them."""
CUT = "2"
"""Names the way tiles are cut; what is in a cache under another name is out of date."""
MEMORY_SHARE = 0.25
"""Of the machine's memory, that tiles may take where the cache cannot keep them."""
CHUNK = 32
"""Faces handed to a worker at once."""


@dataclass(frozen=True)
class Tiles(TrainingData):
    """The faces of a folder, cut out with room around them: all those of some people are held out.

    Attributes:
        points: float32 [N, K, 2], fractions of the tiles' sides.
        people: of each face who it is.
        outside: landmarks that lie outside their image, and faces that have any. That is usual at an
            image's border; such points are learnt where they lie.
    """

    points: NDArray[np.float32]
    people: list[str]
    outside: tuple[int, int]

    def facts(self) -> dict[str, Any]:
        """See `TrainingData`."""
        return super().facts() | {"people": len({*self.people}), "points_outside": self.outside[0]}


def load_tiles(
    annotations: Annotations, image_size: int, *, cache: Path, workers: int, share_held: float
) -> Tiles:
    """Cut the tiles of all faces, or take them from the cache where no file changed.

    Args:
        annotations: which faces.
        image_size: side in pixels of the crops that will be cut from the tiles; the tiles' side follows.
        cache: folder for decoded arrays; see `images.cache`.
        workers: processes that decode; 0 decodes in this one.
        share_held: of the people, who are held out with all their images.

    Raises:
        UserError: no image can be used, or there is no room for the tiles.
    """
    folder = annotations.folder.resolve()
    size = tile_size(image_size)
    entry = CacheEntry(cache, folder, size, f"{_state(annotations)}, {DECODER}, {CUT}")
    loaded = entry.read()
    if loaded is None:
        cut_all = partial(_cut_all, annotations, size, workers)
        loaded = decode_into_cache(entry, cut_all, len(annotations.files), size, MEMORY_SHARE)
    images, index = loaded
    skipped = sorted(index.skipped.items())
    if not len(images):
        raise UserError(f"no image of {folder} can be used; the first is {skipped[0][0]}: {skipped[0][1]}")
    rows = index.extra["rows"]
    outside = np.array(index.extra["outside"])
    pixels = annotations.points[rows]
    points = to_fractions(pixels, squares_of(boxes_of(pixels), TILE)).astype(np.float32)
    people = [annotations.people[row] for row in rows]
    held = hold_out(people, share_held)
    # Who is held out too: who was trained on once must not come to score the network.
    data = index.digest.encode() + points.tobytes() + held.tobytes()
    images.flags.writeable = False
    return Tiles(
        images=images,
        points=points,
        files=[annotations.files[row] for row in rows],
        people=people,
        held=held,
        skipped=skipped,
        outside=(int(outside.sum()), int((outside > 0).sum())),
        digest=hashlib.blake2b(data, digest_size=16).hexdigest(),
        folder=folder,
    )


def hold_out(people: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Which faces are held out: all faces of this share of the people, of one person at least.

    A digest of the name decides who, whatever the seed of a run, so that all runs can be compared.

    Args:
        people: of each face a name of who it is.
        share: of the people, in [0, 1].

    Returns:
        bool [N].
    """
    ranked = sorted({*people}, key=lambda name: hashlib.blake2b(name.encode(errors="replace")).digest())
    held = {*ranked[: max(1, round(share * len(ranked)))]}
    return np.array([name in held for name in people])


def tile_size(image_size: int) -> int:
    """Side of the tiles in pixels, at which a crop is cut out of them without a change of scale."""
    return round(image_size * TILE / ENLARGE)


def _state(annotations: Annotations) -> str:
    """Names everything that the tiles' pixels follow from."""
    digest = hashlib.blake2b(annotations.points.tobytes(), digest_size=16)
    for name in annotations.files:
        with contextlib.suppress(OSError):
            digest.update(file_signature(name, (annotations.folder / name).stat()))
    return digest.hexdigest()


def _cut_all(annotations: Annotations, size: int, workers: int, keep: StoreImage) -> CacheIndex:
    files = annotations.files
    rows: list[int] = []
    outside: list[int] = []
    faces = [(annotations.folder / name, face) for name, face in zip(files, annotations.points, strict=True)]
    jobs = [faces[first : first + CHUNK] for first in range(0, len(faces), CHUNK)]
    few = len(jobs) < 2
    with (
        contextlib.closing(parallel_map(partial(_cut_chunk, size=size), jobs, 0 if few else workers)) as made,
        tqdm(chain.from_iterable(made), "cutting out faces", len(files), unit=" faces") as results,
    ):

        def tiles() -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
            for row, (name, (tile, count)) in enumerate(zip(files, results, strict=True)):
                if not isinstance(tile, str):
                    rows.append(row)
                    outside.append(count)
                yield name, tile

        return replace(store_images(tiles(), keep), extra={"rows": rows, "outside": outside})


def _cut_chunk(
    faces: list[tuple[Path, NDArray[np.float64]]], size: int
) -> list[tuple[NDArray[np.uint8] | str, int]]:
    """Of each face its tile, or why there is none, and the number of its landmarks outside the image."""
    results: list[tuple[NDArray[np.uint8] | str, int]] = []
    for path, points in faces:
        try:
            image = decode_full(path)
        except UnusableImageError as unusable:
            results.append((str(unusable), 0))
            continue
        there = inside(points, image)
        if not there.any():
            results.append(("none of the landmarks lies in it", 0))
        elif np.ptp(points, axis=0).max() > FURTHEST * max(image.shape[1:]):
            results.append((f"the landmarks reach over more than {FURTHEST:g} times its longer side", 0))
        else:
            tile = cut(image, squares_of(boxes_of(points), TILE), size)
            results.append((tile, int((~there).sum())))
    return results
