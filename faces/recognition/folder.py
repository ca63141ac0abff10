"""Labelled images from a folder with one sub-folder per class, and their training split.

Nothing here imports torch.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from faces.data import TrainingData
from faces.tables import open_csv
from images.dataset import ImageDataset, load_folder
from images.exclude import Excluded, ExcludePatterns
from images.scan import system_entry
from images.tiles import centre_crop

TRAIN, VALIDATE = "train", "validate"
LABELS_FILE = "labels.csv"
SPLIT_NAMES = frozenset(
    {
        *("train", "training", "trn", "val", "valid", "validate", "validation"),
        *("dev", "test", "testing", "tst", "eval"),
    }
)
"""Common names for the parts of a split, in lower case."""


@dataclass(frozen=True)
class LabelledImages(TrainingData):
    """Images and their classes.

    Attributes:
        labels: int64 [N], indices of `classes`.
        classes: names, sorted.
        has_split: whether the folder itself is split into `train` and `validate`.
        excluded: what the patterns excluded.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    has_split: bool
    excluded: Excluded

    def facts(self) -> dict[str, Any]:
        """See `TrainingData`."""
        own = {"classes": list(self.classes), "split": "given" if self.has_split else "by digest"}
        return super().facts() | own

    def class_names(self) -> list[str]:
        """The name of each image's class."""
        return [self.classes[label] for label in self.labels]

    def summary(self) -> str:
        """The numbers of images, classes, and images left out, held out and, in other lines, excluded."""
        counts = np.bincount(self.labels[self.training_indices], minlength=len(self.classes))
        return (
            f"{len(self.images):,} images of {len(self.classes):,} classes from {self.folder} "
            f"({len(self.skipped):,} left out), {counts.min():,} to {counts.max():,} training images per "
            f"class; {len(self.held_out_indices):,} images held out"
            + (f", from {VALIDATE}/" if self.has_split else "")
            + "".join(f"\n{line}" for line in self.excluded.lines())
        )


def load_labelled_images(
    folder: Path,
    side: int,
    *,
    cache: Path,
    workers: int,
    label: str | None = None,
    centre: float = 1.0,
    held_out: float = 0.0,
    exclude: Collection[str] = (),
) -> LabelledImages:
    """Load a folder of classes.

    Args:
        folder: has one sub-folder per class; or `train` and `validate`, which have those; or files whose
            classes come from `label`.
        side: T of the images in pixels.
        cache: folder for decoded arrays; see `images.dataset.load_folder`.
        workers: processes that decode; 0 decodes in this one.
        label: a column of the folder's `labels.csv`, or a regular expression for the file names, whose first
            group is the class; None for sub-folders.
        centre: share of the images' side, around the centre, to keep.
        held_out: share of each class to hold out, unless the folder is split; 0 for none.
        exclude: patterns of images and folders to leave out; see `images.exclude`.

    Raises:
        UserError: the folder does not exist; there are fewer than two classes, an empty class or, if images
            are held out, a class with one image; two classes or both sides of a split contain the same image;
            the folder is split into others than `train` and `validate`; the labels cannot be read.
    """
    faces = load_folder(
        folder, round(side / centre), cache=cache, workers=workers, exclude=exclude, progress=False
    )
    has_split = label is None and _is_split(faces.folder, exclude)
    if label is not None:
        class_of_file, reason = _classes_by_label(faces, label), f"no class by {label}"
    else:
        class_of_file = [_class_folder(name, has_split) for name in faces.files]
        reason = "not in a class folder"
    skipped = [(file, reason) for file, name in zip(faces.files, class_of_file, strict=True) if name is None]
    rows = [row for row, name in enumerate(class_of_file) if name is not None]
    names = [name for name in class_of_file if name is not None]
    files, fingerprints = [faces.files[row] for row in rows], [int(faces.fingerprints[row]) for row in rows]
    classes = tuple(sorted({*names}))
    if label is None:
        _check_none_empty(faces, has_split, exclude)
    if len(classes) < 2:
        raise UserError(
            f"{folder} must have at least two classes, and has {classes[0] if classes else 'none'}: make a "
            "sub-folder for each class, or give --label"
        )
    _check_no_shared_images(names, files, fingerprints)
    if has_split:
        mask = np.array([name.startswith(f"{VALIDATE}/") for name in files])
        _check_split(names, files, fingerprints, mask)
    else:
        mask = hold_out(names, fingerprints, held_out, [int(faces.split_keys[row]) for row in rows])
    labels = np.searchsorted(np.array(classes), np.array(names)).astype(np.int64)
    state = hashlib.blake2b(labels.tobytes() + mask.tobytes(), digest_size=16)
    state.update("\0".join([faces.digest, str(centre), *classes]).encode(errors="surrogateescape"))
    return LabelledImages(
        images=centre_crop(faces.images, side)[rows],
        labels=labels,
        classes=classes,
        held_out=mask,
        files=files,
        skipped=sorted([*faces.skipped, *skipped]),
        digest=state.hexdigest(),
        folder=faces.folder,
        has_split=has_split,
        excluded=faces.excluded,
    )


def hold_out(
    names: Sequence[str], fingerprints: Sequence[int], share: float, split_keys: Sequence[int] | None = None
) -> NDArray[np.bool_]:
    """Select the images to hold out: a share of each class, but at least one and never all.

    The images' fingerprints decide, so that all runs on a folder hold out the same images. Equal images are
    on the same side of the split, and so are near-duplicates, unless a class has nothing else.

    Args:
        names: the class of each image.
        fingerprints: digest of the pixels of each image, as a number.
        share: from 0, which holds out none, to 0.5.
        split_keys: the fingerprints, but the same for near-duplicates; see `images.holdout.split_keys`.

    Returns:
        bool [N].

    Raises:
        UserError: a class has one image, or several equal ones.
    """
    held = np.zeros(len(names), bool)
    if share == 0:
        return held
    classes = np.array(names)
    for name in sorted({*names}):
        rows = np.flatnonzero(classes == name)
        for keys in (split_keys or fingerprints, fingerprints):
            own = sorted({keys[row] for row in rows})
            if len(own) > 1:
                count = min(max(1, round(share * len(own))), len(own) - 1)
                held[rows] = [keys[row] <= own[count - 1] for row in rows]
                break
        else:
            raise UserError(
                f"the class {name} has one image: training and scoring need one each; add more, or leave the "
                "class out"
            )
    return held


def _is_split(folder: Path, exclude: Collection[str]) -> bool:
    """Whether the only sub-folders are train/ and validate/.

    Raises:
        UserError: the folder is split in another way, which would be mistaken for classes.
    """
    names = {*_subfolders(folder, exclude)}
    if names == {TRAIN, VALIDATE}:
        return True
    if TRAIN in names and _subfolders(folder, exclude, TRAIN):
        others = ", ".join(f"{name}/" for name in sorted(names - {TRAIN})) or "nothing"
        raise UserError(
            f"{folder / TRAIN} has sub-folders, and beside it is {others} instead of {VALIDATE}/ alone: "
            f"rename that and move the rest away, or give {folder / TRAIN} to have some of it held out"
        )
    # Classes may have such names too, and sub-folders: this takes several, and all of them.
    common = len(names) > 1 and {name.casefold() for name in names} <= SPLIT_NAMES
    if common and all(_subfolders(folder, exclude, name) for name in names):
        parts = ", ".join(f"{name}/" for name in sorted(names))
        raise UserError(
            f"{folder} is split into {parts}, all with sub-folders, not into {TRAIN}/ and {VALIDATE}/ alone: "
            "rename these and move the rest away, or give one of them to have some of it held out"
        )
    return False


def _subfolders(folder: Path, exclude: Collection[str], parent: str = "") -> list[str]:
    """Names of the subfolders of a folder's subfolder `parent` that may contain images."""
    patterns, prefix = ExcludePatterns(exclude), f"{parent}/" if parent else ""
    return [
        path.name
        for path in sorted((folder / parent).iterdir())
        if path.is_dir()
        and not path.name.startswith(".")
        and not system_entry(path.name)
        and not patterns.exclude(prefix + path.name, is_folder=True)
    ]


def _class_folder(file: str, has_split: bool) -> str | None:
    """The class folder of a file; None if it is in none."""
    parts = file.split("/")[1 if has_split else 0 :]
    return parts[0] if len(parts) > 1 else None


def _classes_by_label(faces: ImageDataset, label: str) -> list[str | None]:
    """The class of each file by a column of the table, or by its name; None if there is none."""
    table = faces.folder / LABELS_FILE
    values = _read_column(table, label) if table.is_file() else None
    if values is not None:
        return [values.get(name) or None for name in faces.files]
    try:
        pattern = re.compile(label)
    except re.error as error:
        raise UserError(f"--label {label} is not a regular expression: {error}") from None
    if not pattern.groups:
        raise UserError(
            f"--label {label} is neither a column of {table} nor a regular expression with a group"
        )
    matches = [pattern.search(name) for name in faces.files]
    return [(match[1] or None) if match else None for match in matches]


def _read_column(table: Path, name: str) -> dict[str, str] | None:
    """The values of a column by file; None if there is no such column."""
    with open_csv(table) as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if not {"file", name} <= {*(reader.fieldnames or ())}:
            return None
        return {row["file"]: row[name] for row in reader}


def _check_none_empty(faces: ImageDataset, has_split: bool, exclude: Collection[str]) -> None:
    depth = 2 if has_split else 1
    used = {"/".join(name.split("/")[:depth]) for name in faces.files}
    for parent in (TRAIN, VALIDATE) if has_split else ("",):
        for subfolder in _subfolders(faces.folder, exclude, parent):
            name = f"{parent}/{subfolder}" if parent else subfolder
            if name not in used:
                reasons = (f" ({file}: {why})" for file, why in faces.skipped if file.startswith(f"{name}/"))
                raise UserError(
                    f"the class {faces.folder / name} has no usable image{next(reasons, '')}: add some, or "
                    "remove the folder"
                )


def _check_no_shared_images(names: Sequence[str], files: Sequence[str], fingerprints: Sequence[int]) -> None:
    first_rows: dict[int, int] = {}
    pairs = []
    for row, fingerprint in enumerate(fingerprints):
        first = first_rows.setdefault(fingerprint, row)
        if names[first] != names[row]:
            pairs.append((first, row))
    if pairs:
        first, second = pairs[0]
        raise UserError(
            f"the classes {names[first]} and {names[second]} contain the same image ({files[first]}, "
            f"{files[second]}; {len(pairs):,} such pairs in all): remove it from one of them"
        )


def _check_split(
    names: Sequence[str], files: Sequence[str], fingerprints: Sequence[int], held_out: NDArray[np.bool_]
) -> None:
    sides = {*zip(names, held_out.tolist(), strict=True)}
    for name in sorted({*names}):
        for is_held, place in ((False, TRAIN), (True, VALIDATE)):
            if (name, is_held) not in sides:
                raise UserError(f"the class {name} has no image in {place}/: add some, or remove the class")
    images = [*zip(fingerprints, files, held_out, strict=True)]
    trained = {fingerprint: file for fingerprint, file, is_held in images if not is_held}
    for fingerprint, file, is_held in images:
        if is_held and fingerprint in trained:
            raise UserError(
                f"{trained[fingerprint]} and {file} are the same image: a score on a training image is "
                "meaningless"
            )
