"""Face crops for training: each annotated face with a margin, decoded once and kept in memory.

A face crop is a square with `FACE_CROP_SCALE` times the longer side of the landmarks' bounding box: enough
for any jitter, rotation and scale. Training crops its network inputs from it, on the device.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.progress import ProgressBar
from engine.worker_pool import parallel_map
from faces.data import TrainingData
from faces.landmarks.annotations import Annotations
from faces.landmarks.geometry import (
    INPUT_SCALE,
    bounding_boxes,
    crop_square,
    inside_image,
    squares_around,
    to_fractions,
)
from images.cache import CacheEntry, CacheIndex, StoreImage, store_images
from images.dataset import decode_into_cache, read_from_cache
from images.decode import DECODER, UnusableImageError, decode_full
from images.scan import file_signature

FACE_CROP_SCALE = 2.1
"""Side of a face crop over the longer side of the landmarks' bounding box."""
MAX_EXTENT = 2.0
"""Landmarks that extend over more than this many times the longer side of their image are an error in the
table; their crops could exceed any memory."""
CROP_VERSION = "2"
"""Part of the cache key; change it when crops change."""
MEMORY_SHARE = 0.25
"""Largest share of the machine's memory for crops that the cache cannot keep."""
CHUNK_SIZE = 32
"""Faces per job of a worker."""


@dataclass(frozen=True)
class FaceCrops(TrainingData):
    """The face crops of a folder; some people are held out with all their faces.

    Attributes:
        points: float32 [N, K, 2], fractions of the crops' sides; NaN if not marked.
        people: the person of each face.
        outside: number of landmarks outside their image, and of faces that have any. Faces at an image's
            border have some; training uses them as annotated.
    """

    points: NDArray[np.float32]
    people: list[str]
    outside: tuple[int, int]

    def facts(self) -> dict[str, Any]:
        """See `TrainingData`."""
        return super().facts() | {
            "people": len({*self.people}),
            "points_outside": self.outside[0],
            "points_unmarked": int(np.isnan(self.points).any(-1).sum()),
        }


def load_face_crops(
    annotations: Annotations,
    image_size: int,
    *,
    cache: Path,
    workers: int,
    held_out: float,
    exclude: Collection[str] = (),
) -> FaceCrops:
    """Crop all faces, or read the crops from the cache if no file changed.

    Args:
        annotations: the faces.
        image_size: side in pixels of the network's inputs, from which the crops' side follows.
        cache: folder for decoded arrays; see `images.cache`.
        workers: processes that decode; 0 decodes in this process.
        held_out: share of the people to hold out.
        exclude: patterns of images that the annotations leave out; each set of them is cached by itself.

    Raises:
        UserError: no image can be used, or the crops do not fit into memory.
    """
    folder = annotations.folder.resolve()
    size = face_crop_size(image_size)
    state = f"{_digest(annotations)}, {DECODER}, {CROP_VERSION}"
    entry = CacheEntry(cache, folder, size, state, exclude, content="face crops")
    loaded = read_from_cache(entry, folder)
    if loaded is None:
        crop_all = partial(_crop_all, annotations, size, workers)
        loaded = decode_into_cache(entry, crop_all, len(annotations.files), size, MEMORY_SHARE)
    images, index = loaded
    skipped = sorted(index.skipped.items())
    if not len(images):
        raise UserError(f"no image of {folder} can be used; the first is {skipped[0][0]}: {skipped[0][1]}")
    rows = index.extra["rows"]
    outside = np.array(index.extra["outside"])
    pixels = annotations.points[rows]
    squares = squares_around(bounding_boxes(pixels), FACE_CROP_SCALE)
    points = to_fractions(pixels, squares).astype(np.float32)
    people = [annotations.people[row] for row in rows]
    mask = holdout_people(people, held_out)
    # The digest includes the split: a resumed run must not score on people it has been trained on.
    data = index.digest.encode() + points.tobytes() + mask.tobytes()
    images.flags.writeable = False
    return FaceCrops(
        images=images,
        points=points,
        files=[annotations.files[row] for row in rows],
        people=people,
        held_out=mask,
        skipped=skipped,
        outside=(int(outside.sum()), int((outside > 0).sum())),
        digest=hashlib.blake2b(data, digest_size=16).hexdigest(),
        folder=folder,
    )


def holdout_people(people: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Select the faces to hold out: all faces of a share of the people, at least one person.

    A digest of the name decides, independently of the run's seed, so that runs can be compared.

    Args:
        people: the person of each face.
        share: of the people, in [0, 1].

    Returns:
        bool [N].
    """
    ranked = sorted({*people}, key=lambda name: hashlib.blake2b(name.encode(errors="replace")).digest())
    held_out = {*ranked[: max(1, round(share * len(ranked)))]}
    return np.array([name in held_out for name in people])


def face_crop_size(image_size: int) -> int:
    """Side of the face crops in pixels, at which a network input is cropped without a change of scale."""
    return round(image_size * FACE_CROP_SCALE / INPUT_SCALE)


def _digest(annotations: Annotations) -> str:
    """Digest of everything that determines the crops' pixels."""
    digest = hashlib.blake2b(annotations.points.tobytes(), digest_size=16)
    for name in annotations.files:
        with contextlib.suppress(OSError):
            digest.update(file_signature(name, (annotations.folder / name).stat()))
    return digest.hexdigest()


def _crop_all(annotations: Annotations, size: int, workers: int, store: StoreImage) -> CacheIndex:
    files = annotations.files
    rows: list[int] = []
    outside: list[int] = []
    faces = [(annotations.folder / name, face) for name, face in zip(files, annotations.points, strict=True)]
    jobs = [faces[first : first + CHUNK_SIZE] for first in range(0, len(faces), CHUNK_SIZE)]
    if len(jobs) < 2:
        workers = 0
    with (
        contextlib.closing(parallel_map(partial(_crop_chunk, size=size), jobs, workers)) as chunks,
        ProgressBar(chain.from_iterable(chunks), "cropping faces", len(files), unit=" faces") as results,
    ):

        def crops() -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
            for row, (name, (crop, count)) in enumerate(zip(files, results, strict=True)):
                if not isinstance(crop, str):
                    rows.append(row)
                    outside.append(count)
                yield name, crop

        return replace(store_images(crops(), store), extra={"rows": rows, "outside": outside})


def _crop_chunk(
    faces: list[tuple[Path, NDArray[np.float64]]], size: int
) -> list[tuple[NDArray[np.uint8] | str, int]]:
    """The crop of each face, or the reason why there is none, and its number of landmarks outside."""
    results: list[tuple[NDArray[np.uint8] | str, int]] = []
    for path, points in faces:
        try:
            image = decode_full(path)
        except UnusableImageError as unusable:
            results.append((str(unusable), 0))
            continue
        points = points[~np.isnan(points).any(-1)]
        inside = inside_image(points, image)
        if not inside.any():
            results.append(("all landmarks are outside the image", 0))
        elif np.ptp(points, axis=0).max() > MAX_EXTENT * max(image.shape[1:]):
            results.append((f"the landmarks extend over more than {MAX_EXTENT:g} times its longer side", 0))
        else:
            crop = crop_square(image, squares_around(bounding_boxes(points), FACE_CROP_SCALE), size)
            results.append((crop, int((~inside).sum())))
    return results
