"""A folder with one sub-folder a class: its images, what each is of, and which are never trained on.

Nothing here imports torch.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from faces.data import TrainingData
from faces.tables import open_csv
from images.dataset import ImageDataset, load_folder
from images.tiles import middle

TRAIN, VALIDATE = "train", "validate"
TABLE = "labels.csv"
SPLITS = frozenset(
    {
        *("train", "training", "trn", "val", "valid", "validate", "validation"),
        *("dev", "test", "testing", "tst", "eval"),
    }
)
"""What people call the parts of a split, in any letter case."""


@dataclass(frozen=True)
class LabelledImages(TrainingData):
    """Images and what they are of.

    Attributes:
        labels: int64 [N], numbers of classes.
        classes: their names, sorted.
        given: whether the folder itself says what is held out.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    given: bool

    def facts(self) -> dict[str, Any]:
        """See `TrainingData`."""
        own = {"classes": list(self.classes), "split": "given" if self.given else "by digest"}
        return super().facts() | own

    def class_names(self) -> list[str]:
        """Of each image the name of its class."""
        return [self.classes[label] for label in self.labels]

    def summary(self) -> str:
        """One line: how many images of how many classes, how many are held out, what was left out."""
        counts = np.bincount(self.labels[self.trained], minlength=len(self.classes))
        return (
            f"{len(self.images):,} images of {len(self.classes):,} classes from {self.folder} "
            f"({len(self.skipped):,} left out), {counts.min():,} to {counts.max():,} of a class to train on; "
            f"{len(self.held_rows):,} images held out" + (f", as {VALIDATE}/ says" if self.given else "")
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
) -> LabelledImages:
    """Read a folder of classes.

    Args:
        folder: with one sub-folder a class; or with `train` and `validate` that hold those; or with files
            whose classes `label` tells.
        side: T of the images in pixels.
        cache: folder for decoded arrays; see `images.dataset.load_folder`.
        workers: processes that decode; 0 decodes in this one.
        label: a column of `labels.csv` in the folder, or a regular expression for the files' names,
            whose first group is the class; None where sub-folders are.
        centre: share of the images' side, around the middle, that is kept.
        held_out: share of each class that is held out, where the folder does not say which; 0 for none.

    Raises:
        UserError: no such folder, less than two classes, an empty class or, where images are held out, one
            of a single image; the same image in two classes or on both sides of a given split; a split of
            other names than `train` and `validate`; labels that cannot be read.
    """
    faces = load_folder(folder, round(side / centre), cache=cache, workers=workers, progress=False)
    given = label is None and _is_split(faces.folder)
    named = (
        _by_label(faces, label) if label is not None else [_class_folder(name, given) for name in faces.files]
    )
    left_out = f"no class by {label}" if label is not None else "in no class's folder"
    skipped = [(file, left_out) for file, name in zip(faces.files, named, strict=True) if name is None]
    rows = [row for row, name in enumerate(named) if name is not None]
    names = [name for name in named if name is not None]
    files, prints = [faces.files[row] for row in rows], [int(faces.fingerprints[row]) for row in rows]
    classes = tuple(sorted({*names}))
    if label is None:
        _check_none_empty(faces, given)
    if len(classes) < 2:
        raise UserError(
            f"{folder} must hold two classes or more, and holds {classes[0] if classes else 'none'}: make a "
            "sub-folder for each class, or say by --label what tells them"
        )
    _check_no_two_classes(names, files, prints)
    if given:
        held = np.array([name.startswith(f"{VALIDATE}/") for name in files])
        _check_sides(names, files, prints, held)
    else:
        held = hold_out(names, prints, held_out)
    labels = np.searchsorted(np.array(classes), np.array(names)).astype(np.int64)
    state = hashlib.blake2b(labels.tobytes() + held.tobytes(), digest_size=16)
    state.update("\0".join([faces.digest, str(centre), *classes]).encode(errors="surrogateescape"))
    return LabelledImages(
        images=middle(faces.images, side)[rows],
        labels=labels,
        classes=classes,
        held=held,
        files=files,
        skipped=sorted([*faces.skipped, *skipped]),
        digest=state.hexdigest(),
        folder=faces.folder,
        given=given,
    )


def hold_out(names: Sequence[str], fingerprints: Sequence[int], share: float) -> NDArray[np.bool_]:
    """Which images are held out: this share of each class, rounded, but one at least and never all.

    Images' own fingerprints decide, so that equal images are on one side, and all runs on a folder hold out
    the same.

    Args:
        names: of each image its class.
        fingerprints: of each image the digest of its pixels, as a number.
        share: from 0, which holds out none, to 0.5.

    Returns:
        bool [N].

    Raises:
        UserError: a class has a single image, or several equal ones.
    """
    chosen: set[int] = set()
    if share == 0:
        return np.zeros(len(names), bool)
    for name in sorted({*names}):
        own = {print_ for print_, other in zip(fingerprints, names, strict=True) if other == name}
        if len(own) < 2:
            raise UserError(
                f"the class {name} has one image: it takes one to train on and another to score with; add "
                "more, or leave the class out"
            )
        count = min(max(1, round(share * len(own))), len(own) - 1)
        chosen.update(sorted(own)[:count])
    return np.array([print_ in chosen for print_ in fingerprints])


def _is_split(folder: Path) -> bool:
    """Whether the folder's only sub-folders are train/ and validate/.

    Raises:
        UserError: there is a train/ with classes inside, and beside it something else than validate/, or a
            split by other names; all of them would be taken for classes.
    """
    names = {path.name for path in _folders(folder)}
    if names == {TRAIN, VALIDATE}:
        return True
    if TRAIN in names and _folders(folder / TRAIN):
        others = ", ".join(f"{name}/" for name in sorted(names - {TRAIN})) or "nothing"
        raise UserError(
            f"{folder / TRAIN} holds folders itself, and beside it is {others} where {VALIDATE}/ alone has "
            f"to be: rename that and move the rest away, or give {folder / TRAIN} to have some of it held out"
        )
    # Classes may be called so too, and may hold folders: it takes several, and all of them.
    named = len(names) > 1 and {name.casefold() for name in names} <= SPLITS
    if named and all(_folders(folder / name) for name in names):
        raise UserError(
            f"{folder} is split into {', '.join(f'{name}/' for name in sorted(names))}, each with folders "
            f"inside, and {TRAIN}/ and {VALIDATE}/ alone have to be there: rename what they are and move the "
            "rest away, or give one of them to have some of it held out"
        )
    return False


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _class_folder(file: str, given: bool) -> str | None:
    """The class of a file by the folder it lies in; None where it lies in none."""
    parts = file.split("/")[1 if given else 0 :]
    return parts[0] if len(parts) > 1 else None


def _by_label(faces: ImageDataset, label: str) -> list[str | None]:
    """The class of each file by a column of the table, or by its name; None where that tells none."""
    table = faces.folder / TABLE
    known = _column(table, label) if table.is_file() else None
    if known is not None:
        return [known.get(name) or None for name in faces.files]
    try:
        pattern = re.compile(label)
    except re.error as error:
        raise UserError(f"--label {label} is no regular expression: {error}") from None
    if not pattern.groups:
        raise UserError(
            f"--label {label} is neither a column of {table} nor a regular expression with a group"
        )
    found = [pattern.search(name) for name in faces.files]
    return [(match[1] or None) if match else None for match in found]


def _column(table: Path, name: str) -> dict[str, str] | None:
    """A table's column by its files; None where it has no column of that name."""
    with open_csv(table) as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if not {"file", name} <= {*(reader.fieldnames or ())}:
            return None
        return {row["file"]: row[name] for row in reader}


def _check_none_empty(faces: ImageDataset, given: bool) -> None:
    used = {str(Path(name).parts[0]) if not given else "/".join(name.split("/")[:2]) for name in faces.files}
    places = [faces.folder / TRAIN, faces.folder / VALIDATE] if given else [faces.folder]
    for place in places:
        for path in _folders(place):
            name = path.relative_to(faces.folder).as_posix()
            if name not in used:
                why = next(
                    (f" ({file}: {reason})" for file, reason in faces.skipped if file.startswith(f"{name}/")),
                    "",
                )
                raise UserError(f"the class {path} has no usable image{why}: add some, or remove the folder")


def _check_no_two_classes(names: Sequence[str], files: Sequence[str], fingerprints: Sequence[int]) -> None:
    first: dict[int, int] = {}
    shared = []
    for row, print_ in enumerate(fingerprints):
        known = first.setdefault(print_, row)
        if names[known] != names[row]:
            shared.append((known, row))
    if shared:
        one, other = shared[0]
        raise UserError(
            f"the classes {names[one]} and {names[other]} hold the same image ({files[one]}, {files[other]}; "
            f"{len(shared):,} such pairs in all): an image is of one class, so remove it from the other"
        )


def _check_sides(
    names: Sequence[str], files: Sequence[str], fingerprints: Sequence[int], held: NDArray[np.bool_]
) -> None:
    for name in sorted({*names}):
        sides = {bool(side) for side, other in zip(held, names, strict=True) if other == name}
        for side, place in ((False, TRAIN), (True, VALIDATE)):
            if side not in sides:
                raise UserError(f"the class {name} has no image in {place}/: add some, or remove the class")
    trained = {print_: file for print_, file, side in zip(fingerprints, files, held, strict=True) if not side}
    for print_, file, side in zip(fingerprints, files, held, strict=True):
        if side and print_ in trained:
            raise UserError(
                f"{trained[print_]} and {file} are the same image: a score on it would say nothing"
            )
