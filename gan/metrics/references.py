"""The real images that a run is measured against: which it was trained on, and which it never saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.runs import RunInfo
from engine.worker_pool import worker_count
from gan.config import groups_near_duplicates
from gan.metrics.evaluate import RealFaces
from images.dataset import ImageDataset, load_folder


@dataclass(frozen=True)
class Reference:
    """Real images for an evaluation.

    Attributes:
        faces: the images, and what each is there for.
        folder: whose images are in the pool, absolute.
        digest: of all pixels in that folder.
        copying: what copies are told by, or why they are not; one line.
    """

    faces: RealFaces
    folder: Path
    digest: str
    copying: str


def load_reference(info: RunInfo, folder: Path | None, *, only_held_out: bool = False) -> Reference:
    """Load the real images.

    A face that was held out by the run's settings, or that is in `folder` and not among those trained
    on, pixel for pixel, counts as held out. So a folder that holds more than the run was trained on
    makes copies easier to tell.

    Args:
        info: of the run.
        folder: of the images to compare with; the one the run was trained on if None.
        only_held_out: whether to compare with none that were trained on.

    Raises:
        UserError: a folder cannot be read or holds no images, or `only_held_out` leaves none.
    """
    trained_folder = _folder_trained_on(info)
    real = _load(info, folder or trained_folder)
    if real.folder == trained_folder or real.digest == info.data.get("digest"):
        rows = np.arange(len(real.images))
        held_out = _once(np.flatnonzero(real.held_out), real.fingerprints)
        faces, trained_digest = RealFaces(real.images, rows, real.training_indices, held_out), real.digest
    else:
        faces, trained_digest = _with_training_images(real, info, trained_folder)
    if only_held_out:
        pool = np.intersect1d(faces.pool, faces.held_out)
        if not len(pool):
            raise UserError(f"{real.folder} holds none but images trained on; give another --real")
        faces = RealFaces(faces.images, pool, faces.train, faces.held_out)
    changed = trained_digest != info.data.get("digest")
    return Reference(faces, real.folder, real.digest, _told(faces, trained_folder, changed=changed))


def _folder_trained_on(info: RunInfo) -> Path:
    folder = info.data.get("folder")
    if not isinstance(folder, str) or "\0" in folder:
        raise UserError("the run's config.json was changed: it names no folder of images trained on")
    return Path(folder)


def _load(info: RunInfo, folder: Path) -> ImageDataset:
    settings = info.settings
    return load_folder(
        folder,
        settings.image_size,
        cache=settings.cache,
        workers=worker_count(settings.workers),
        held_out=settings.held_out,
        group_near_duplicates=groups_near_duplicates(info),
    )


def _with_training_images(real: ImageDataset, info: RunInfo, trained_folder: Path) -> tuple[RealFaces, str]:
    """The images of another folder, followed by those of the one the run was trained on, if it is there.

    And the digest of the latter, empty if it is not.
    """
    pool = np.arange(len(real.images))
    nothing = np.arange(0)
    try:
        own = _load(info, trained_folder)
    except UserError:
        return RealFaces(real.images, pool, train=nothing, held_out=nothing), ""
    known = np.isin(real.fingerprints, own.fingerprints[own.training_indices])
    held_out = np.concatenate([pool[~known], len(pool) + np.flatnonzero(own.held_out)])
    faces = RealFaces(
        images=np.concatenate([real.images, own.images]),
        pool=pool,
        train=len(pool) + own.training_indices,
        held_out=_once(held_out, np.concatenate([real.fingerprints, own.fingerprints])),
    )
    return faces, own.digest


def _once(rows: NDArray[np.int64], fingerprints: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Of equal images the first: the other would be the nearest of all to it, and hide what is copied."""
    _, first = np.unique(fingerprints[rows], return_index=True)
    return rows[np.sort(first)]


def _told(faces: RealFaces, trained_folder: Path, *, changed: bool) -> str:
    if not len(faces.train):
        return f"not told, as the images trained on are no longer in {trained_folder}"
    if not faces.tell_copies:
        return "not told, as no image here was held out; --real FOLDER with others than trained on helps"
    told = f"of {len(faces.train):,} images trained on, told by {len(faces.held_out):,} that were not"
    return f"{told} (the folder has changed since, so this is not certain)" if changed else told
