"""The real images of an evaluation: which the run was trained on, and which it was not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.runs import RunInfo
from engine.worker_pool import worker_count
from gan.config import groups_near_duplicates
from gan.metrics.evaluate import RealImages
from images.dataset import ImageDataset, load_folder


@dataclass(frozen=True)
class Reference:
    """Real images for an evaluation.

    Attributes:
        faces: the images and their roles.
        folder: absolute path of the folder with the pool.
        digest: digest of all pixels in that folder.
        copying: which images the search for copies uses, or why there is none; one line.
        notes: lines about images of the folder that the run's own --exclude leaves out.
    """

    faces: RealImages
    folder: Path
    digest: str
    copying: str
    notes: tuple[str, ...] = ()


def load_reference(info: RunInfo, folder: Path | None, *, only_held_out: bool = False) -> Reference:
    """Load the real images.

    An image counts as held out if the run's settings held it out, or if it is in `folder` and equals no
    training image pixel for pixel. So a folder with more images than the run was trained on helps to detect
    copies.

    Args:
        info: of the run; without data for a generator in a file of its own.
        folder: images to compare with; None for the folder the run was trained on.
        only_held_out: exclude training images from the pool.

    Raises:
        UserError: a folder is unreadable or has no images, or `only_held_out` leaves none or cannot be
            applied, because the training images are unknown.
    """
    if only_held_out and not info.data:
        raise UserError(
            "--only-held-out needs a run: an exported generator does not name its training images"
        )
    if not info.data:
        return _unknown_training_images(info, folder)
    trained_folder = _folder_trained_on(info)
    if folder is None and not trained_folder.exists():
        raise UserError(
            f"{trained_folder}, which the run was trained on, is no longer there: give --real FOLDER"
        )
    real = _load(info, folder or trained_folder)
    if real.folder == trained_folder or real.digest == info.data.get("digest"):
        rows = np.arange(len(real.images))
        held_out = _unique(np.flatnonzero(real.held_out), real.fingerprints)
        faces, trained_digest = RealImages(real.images, rows, real.training_indices, held_out), real.digest
    else:
        faces, trained_digest = _with_training_images(real, info, trained_folder)
    if only_held_out:
        pool = np.intersect1d(faces.pool, faces.held_out)
        if not len(faces.train):
            raise UserError(
                f"{trained_folder}, which the run was trained on, cannot be read, so which images were held "
                "out is unknown: omit --only-held-out"
            )
        if not len(pool):
            raise UserError(f"{real.folder} contains only training images; give another --real")
        faces = RealImages(faces.images, pool, faces.train, faces.held_out)
    changed = trained_digest != info.data.get("digest")
    copying = _describe_copying(faces, trained_folder, changed=changed)
    return Reference(faces, real.folder, real.digest, copying, tuple(real.excluded.lines()))


def _folder_trained_on(info: RunInfo) -> Path:
    folder = info.data.get("folder")
    if not isinstance(folder, str) or "\0" in folder:
        raise UserError(
            "config.json of the run names no folder of training images, so it was edited: give --real FOLDER"
        )
    return Path(folder)


def _unknown_training_images(info: RunInfo, folder: Path | None) -> Reference:
    if folder is None:
        raise UserError("an exported generator has no folder of training images: give --real FOLDER")
    real, none = _load(info, folder), np.arange(0)
    faces = RealImages(real.images, np.arange(len(real.images)), train=none, held_out=none)
    copying = "not measured, because an exported generator does not name its training images"
    return Reference(faces, real.folder, real.digest, copying)


def _load(info: RunInfo, folder: Path) -> ImageDataset:
    settings = info.settings
    return load_folder(
        folder,
        settings.image_size,
        cache=settings.cache,
        workers=worker_count(settings.workers),
        held_out=settings.held_out,
        group_near_duplicates=groups_near_duplicates(info),
        exclude=settings.exclude,
    )


def _with_training_images(real: ImageDataset, info: RunInfo, trained_folder: Path) -> tuple[RealImages, str]:
    """Append the images of the training folder, if it still exists, to those of another folder.

    Returns:
        The images, and the digest of the training folder, empty if it is missing.
    """
    pool = np.arange(len(real.images))
    empty = np.arange(0)
    try:
        trained = _load(info, trained_folder)
    except UserError:
        return RealImages(real.images, pool, train=empty, held_out=empty), ""
    known = np.isin(real.fingerprints, trained.fingerprints[trained.training_indices])
    held_out = np.concatenate([pool[~known], len(pool) + np.flatnonzero(trained.held_out)])
    faces = RealImages(
        images=np.concatenate([real.images, trained.images]),
        pool=pool,
        train=len(pool) + trained.training_indices,
        held_out=_unique(held_out, np.concatenate([real.fingerprints, trained.fingerprints])),
    )
    return faces, trained.digest


def _unique(rows: NDArray[np.int64], fingerprints: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Keep the first of equal images: a duplicate would be the nearest image to it and hide copies."""
    _, first = np.unique(fingerprints[rows], return_index=True)
    return rows[np.sort(first)]


def _describe_copying(faces: RealImages, trained_folder: Path, *, changed: bool) -> str:
    if not len(faces.train):
        return f"not measured, because the training images are no longer in {trained_folder}"
    if not faces.can_detect_copies:
        return "not measured, because no image was held out; add other images with --real FOLDER"
    text = (
        f"searched in {len(faces.train):,} training images, against {len(faces.held_out):,} held-out images"
    )
    return f"{text} (uncertain: the folder has changed since)" if changed else text
