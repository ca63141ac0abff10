"""What recognize.py does with photos and galleries. torch is imported only where a network is used."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import UserError
from engine.files import is_file
from engine.png import save_png
from engine.runs import find_run_or_checkpoint, report_write_errors
from engine.settings import Device
from faces.detection.opencv import report_detection_errors
from faces.made import Made
from faces.photos import Photos, list_photos
from faces.recognition.face_crops import Look, faces_found, whole_images
from faces.recognition.gallery import (
    Gallery,
    change_gallery,
    check_network,
    check_threshold,
    empty_gallery,
    is_there,
    load_gallery,
    person_name,
)
from faces.recognition.options import (
    EnrollChoice,
    IdentifyChoice,
    ListChoice,
    LookingChoice,
    PredictChoice,
    RemoveChoice,
    TellingChoice,
)
from faces.recognition.pictures import draw_named
from faces.tables import write_csv
from images.decode import UnusableImageError
from images.fonts import INSTALL_HINT, Label, find_labels

if TYPE_CHECKING:
    from faces.recognition.recognizer import Recognizer

COLUMNS = ("file", "face", "left", "top", "right", "bottom", "name", "score")
SCRIPT, TABLE = "recognize.py", "recognized.csv"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Told:
    """What a command found.

    Attributes:
        lines: to print.
        notes: on what is not as one would expect, one line each.
        problems: images that gave nothing, one line each.
        failed: whether no image gave anything; the exit code is 2 then.
    """

    lines: list[str]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: bool = False

    def show(self) -> int:
        """Print it; the exit code."""
        print("\n".join(self.lines))
        for note in self.notes:
            print(f"note: {note}", file=sys.stderr)
        for problem in self.problems:
            print(f"{'error' if self.failed else 'left out'}: {problem}", file=sys.stderr)
        return 2 if self.failed else 0


def predict(choice: PredictChoice) -> Told:
    """Name the class of each face. Raises `UserError` for what cannot be loaded or written."""
    photos = list_photos(choice.photos)
    photos.check_output(choice.output)
    recognizer = find_recognizer(choice.checkpoint, choice.runs, choice.device)

    def names(crops: NDArray[np.uint8]) -> list[tuple[str, float]]:
        probabilities = recognizer.probabilities(crops)
        return [(recognizer.classes[row.argmax()], float(row.max())) for row in probabilities]

    return _tell(choice, photos, recognizer, recognizer.classes, names, "{:.0%}")


def identify(choice: IdentifyChoice) -> Told:
    """Find faces in the gallery. Raises `UserError` as `predict`, and for a gallery that does not fit."""
    photos = list_photos(choice.photos)
    photos.check_output(choice.output)
    gallery, recognizer = _open_gallery(choice.gallery, choice.checkpoint, choice)
    threshold = gallery.threshold if choice.threshold is None else choice.threshold
    if threshold is None:
        raise UserError(
            f"{choice.gallery} has no threshold: calibrate it (recognize.py calibrate ... --gallery "
            f"{choice.gallery}), or give --threshold"
        )
    check_threshold(threshold)

    def names(crops: NDArray[np.uint8]) -> list[tuple[str, float]]:
        matches = gallery.identify(recognizer.vectors(crops), threshold)
        return [(match.name or UNKNOWN, match.similarity) for match in matches]

    return _tell(choice, photos, recognizer, [*gallery.people, UNKNOWN], names, "{:.2f}")


def enroll(choice: EnrollChoice) -> Told:
    """Add somebody to a gallery, which stays as it was unless every image has one face.

    Images that are in it already are told of and left out.

    Raises:
        UserError: an image that cannot be read, has no face or several, or is somebody else's already; a
            network that is missing or another than the gallery's; a gallery that cannot be written; a name
            that is none.
    """
    name = person_name(choice.name)
    if name.casefold() == UNKNOWN:
        raise UserError(f"{name} is what identify calls a stranger: give another name")
    images = list_photos(choice.images)
    for file, reason in images.skipped:
        raise UserError(f"{file} cannot be enrolled: {reason}; nothing was changed")
    new = None
    if is_there(choice.gallery):
        _, recognizer = _open_gallery(choice.gallery, choice.checkpoint, choice)
    else:
        if choice.checkpoint is None:
            raise UserError(f"{choice.gallery} is new: say by --checkpoint which network it is for")
        recognizer = find_recognizer(choice.checkpoint, choice.runs, choice.device)
        new = empty_gallery(recognizer.digest, recognizer.checkpoint)
    look = _look(recognizer, choice)
    crops = [_one_face(look, path) for path in images.files]
    vectors = recognizer.vectors(np.stack(crops))

    def add(gallery: Gallery) -> Gallery:
        check_network(gallery, choice.gallery, recognizer.digest)
        for path, vector in zip(images.files, vectors, strict=True):
            if others := [other for other in gallery.holders(vector) if other != name]:
                raise UserError(
                    f"{path} is in the gallery as {others[0]} already, and shows one person: leave it "
                    f"out, or remove {others[0]} first; nothing was changed"
                )
        return gallery.enrolled(name, vectors)

    before, after = change_gallery(choice.gallery, add, new)
    count, people = after.people[name], len(after.people)
    lines = [f"{name}: {count:,} vectors; {people:,} people in {choice.gallery}"]
    known = len(vectors) - (len(after.names) - len(before.names))
    if known:
        lines.append(f"{known:,} of {len(vectors):,} images were in it already and are not added again")
    return Told(lines)


def list_people(choice: ListChoice) -> Told:
    """Tell who is in a gallery. Raises `UserError` where it cannot be read."""
    gallery = load_gallery(choice.gallery)
    if choice.json:
        known = {
            "people": gallery.people,
            "threshold": gallery.threshold,
            "network": gallery.network,
            "checkpoint": str(gallery.checkpoint),
        }
        return Told([json.dumps(known, indent=2, ensure_ascii=False)])
    threshold = "none yet" if gallery.threshold is None else f"{gallery.threshold:.4f}"
    return Told(
        [
            *(f"{name}: {count:,} vectors" for name, count in gallery.people.items()),
            f"{len(gallery.people):,} people; threshold: {threshold}; network {gallery.network}, "
            f"{gallery.checkpoint}",
        ]
    )


def remove(choice: RemoveChoice) -> Told:
    """Remove somebody from a gallery. Raises `UserError` for a name or a file that is not there."""
    _, gallery = change_gallery(choice.gallery, lambda gallery: gallery.removed(choice.name))
    return Told([f"{choice.name} is removed; {len(gallery.people):,} people are left in {choice.gallery}"])


def find_recognizer(checkpoint: str | Path, runs: Path, device: Device) -> Recognizer:
    """The network of a checkpoint's file, or of a run by its folder, name or number.

    Raises:
        UserError: there is none, or it is no classifier.
    """
    path = find_run_or_checkpoint(checkpoint, runs, "train_classifier.py FOLDER")
    from faces.recognition.recognizer import load_recognizer  # imports torch, which takes seconds

    return load_recognizer(path, device=device)


def _open_gallery(path: Path, checkpoint: str | None, choice: LookingChoice) -> tuple[Gallery, Recognizer]:
    """A gallery, and the network it is bound to. Raises `UserError` where they do not belong together."""
    gallery = load_gallery(path)
    if checkpoint is None and not is_file(gallery.checkpoint):
        raise UserError(
            f"the network of {path} is no longer at {gallery.checkpoint}: say by --checkpoint where it is"
        )
    recognizer = find_recognizer(checkpoint or gallery.checkpoint, choice.runs, choice.device)
    return load_gallery(path, recognizer.digest), recognizer


def _look(recognizer: Recognizer, choice: LookingChoice) -> Look:
    if choice.whole_image:
        return whole_images(recognizer.side, recognizer.settings.centre)
    return faces_found(recognizer.side, choice.detector, choice.enlarge)


def _one_face(look: Look, path: Path) -> NDArray[np.uint8]:
    try:
        with report_detection_errors():
            seen = look(path)
    except UnusableImageError as unusable:
        raise UserError(f"{path} cannot be enrolled: {unusable}; nothing was changed") from None
    if len(seen.crops) != 1:
        found = f"{len(seen.crops)} faces are found in it" if len(seen.crops) else "no face is found in it"
        raise UserError(
            f"{path} cannot be enrolled: {found}; give images of one face, or crops with --whole-image; "
            "nothing was changed"
        )
    return seen.crops[0]


def _tell(
    choice: TellingChoice,
    photos: Photos,
    recognizer: Recognizer,
    people: Sequence[str],
    names: Callable[[NDArray[np.uint8]], list[tuple[str, float]]],
    form: str,
) -> Told:
    """Name what is in each photo, one of `people`; write copies and a table.

    A photo that cannot be read, or has no face, is told of at the end; all others are done.
    """
    look, labels = _look(recognizer, choice), find_labels(people if choice.copies else ())
    copies = photos.copy_names() if choice.copies else {}
    rows: list[dict[str, object]] = []
    problems = [f"{name}: {reason}" for name, reason in photos.skipped]
    numbered: dict[str, None] = {}
    with report_write_errors(choice.output):
        made = Made(choice.output, SCRIPT, [*copies.values(), TABLE])
        for photo in tqdm(photos.files, "looking at photos", unit=" photos", disable=None):
            try:
                with report_detection_errors():
                    seen = look(photo)
            except UnusableImageError as unusable:
                problems.append(f"{photo}: {unusable}")
                continue
            if not seen.boxes:
                problems.append(f"{photo}: no face is found in it; --whole-image looks at all of it")
                continue
            named = names(seen.crops)
            for face, (box, (name, score)) in enumerate(zip(seen.boxes, named, strict=True)):
                edges = [round(float(edge), 1) for edge in box]
                values = (str(photo), face, *edges, name, round(score, 4))
                rows.append(dict(zip(COLUMNS, values, strict=True)))
            if choice.copies:
                numbered |= dict.fromkeys(name for name, _ in named if name not in labels)
                words = [
                    (labels.get(name, Label(f"face {face}")), form.format(score))
                    for face, (name, score) in enumerate(named)
                ]
                with made.atomic_write(copies[photo]) as path:
                    save_png(path, draw_named(seen.photo, seen.boxes, words))
        with made.atomic_write(TABLE) as path:
            write_csv(path, COLUMNS, (row.values() for row in rows))
    table = choice.output / TABLE
    notes = [
        f"no font is found for the letters of {name}, and copies show the face's number in "
        f"{table}; {INSTALL_HINT}"
        for name in list(numbered)[:1]
    ]
    lines = [*_table(rows, form), *_shares(rows), str(table)]
    if choice.json:
        lines = [json.dumps(rows, indent=2, ensure_ascii=False)]
    return Told(lines, problems, notes, failed=not rows)


def _table(rows: Sequence[dict[str, object]], form: str) -> list[str]:
    return [f"{row['file']}, face {row['face']}: {row['name']} {form.format(row['score'])}" for row in rows]


def _shares(rows: Sequence[dict[str, object]]) -> list[str]:
    """How often each name was given, the most frequent first."""
    names = [str(row["name"]) for row in rows]
    counts = sorted(((names.count(name), name) for name in {*names}), key=lambda one: (-one[0], one[1]))
    told = ", ".join(f"{name} {count:,} ({count / len(names):.1%})" for count, name in counts)
    return [f"{len(names):,} faces: {told}"] if names else []
