"""Commands of recognize.py, except for calibrate. torch is imported only where a network is used."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import atomic_write, is_file
from engine.png import save_png
from engine.progress import ProgressBar
from engine.runs import find_run_or_checkpoint, report_write_errors
from engine.settings import Device
from faces.detection.opencv import report_detection_errors
from faces.photos import Photos, check_output, list_photos, mark_output
from faces.recognition.face_crops import FaceCropper, detected_face_cropper, whole_image_cropper
from faces.recognition.gallery import (
    Gallery,
    check_network,
    check_threshold,
    empty_gallery,
    gallery_exists,
    load_gallery,
    normalize_name,
    update_gallery,
)
from faces.recognition.options import (
    CropArguments,
    EnrollArguments,
    IdentifyArguments,
    ListArguments,
    OutputArguments,
    PredictArguments,
    RemoveArguments,
)
from faces.recognition.pictures import draw_names
from faces.tables import write_csv
from images.decode import UnusableImageError
from images.fonts import INSTALL_HINT, Label, find_labels

if TYPE_CHECKING:
    from faces.recognition.recognizer import Recognizer

COLUMNS = ("file", "face", "left", "top", "right", "bottom", "name", "score")
SCRIPT, TABLE = "recognize.py", "recognized.csv"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class CommandResult:
    """Output of a command.

    Attributes:
        lines: Standard output.
        problems: One line for each image that gave no result.
        notes: Remarks, one line each.
        failed: Whether no image gave a result; the exit code is then 2.
    """

    lines: list[str]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: bool = False

    def show(self) -> int:
        """Print the result and return the exit code."""
        print("\n".join(self.lines))
        for note in self.notes:
            print(f"note: {note}", file=sys.stderr)
        for problem in self.problems:
            print(f"{'error' if self.failed else 'left out'}: {problem}", file=sys.stderr)
        return 2 if self.failed else 0


def predict(arguments: PredictArguments) -> CommandResult:
    """Name the class of each face.

    Raises:
        UserError: The network or photos cannot be loaded, or the output cannot be written.
    """
    photos = list_photos(arguments.photos)
    photos.check_output(arguments.output)
    recognizer = find_recognizer(arguments.checkpoint, arguments.runs, arguments.device)

    def classify(crops: NDArray[np.uint8]) -> list[tuple[str, float]]:
        probabilities = recognizer.probabilities(crops)
        return [(recognizer.classes[row.argmax()], float(row.max())) for row in probabilities]

    return _name_faces(arguments, photos, recognizer, recognizer.classes, classify, "{:.0%}")


def identify(arguments: IdentifyArguments) -> CommandResult:
    """Identify faces by a gallery.

    Raises:
        UserError: As for `predict`, or the gallery does not fit the network or has no threshold.
    """
    photos = list_photos(arguments.photos)
    photos.check_output(arguments.output)
    gallery, recognizer = _open_gallery(arguments.gallery, arguments.checkpoint, arguments)
    threshold = gallery.threshold if arguments.threshold is None else arguments.threshold
    if threshold is None:
        raise UserError(
            f"{arguments.gallery} has no threshold: calibrate it (recognize.py calibrate ... --gallery "
            f"{arguments.gallery}), or give --threshold"
        )
    check_threshold(threshold)

    def match(crops: NDArray[np.uint8]) -> list[tuple[str, float]]:
        matches = gallery.identify(recognizer.embeddings(crops), threshold)
        return [(match.name or UNKNOWN, match.similarity) for match in matches]

    return _name_faces(arguments, photos, recognizer, [*gallery.people, UNKNOWN], match, "{:.2f}")


def enroll(arguments: EnrollArguments) -> CommandResult:
    """Add a person to a gallery. The gallery is unchanged unless each image has exactly one face.

    Images that are already in the gallery are counted and skipped.

    Raises:
        UserError: An image cannot be read, does not have exactly one face, or is enrolled under another
            name; the network is missing or is not the gallery's; the gallery cannot be written; the name is
            invalid.
    """
    name = normalize_name(arguments.name)
    if name.casefold() == UNKNOWN:
        raise UserError(f"identify uses the name {name} for strangers: give another name")
    images = list_photos(arguments.images)
    for file, reason in images.skipped:
        raise UserError(f"{file} cannot be enrolled: {reason}; nothing was changed")
    new = None
    if gallery_exists(arguments.gallery):
        _, recognizer = _open_gallery(arguments.gallery, arguments.checkpoint, arguments)
    else:
        if arguments.checkpoint is None:
            raise UserError(f"{arguments.gallery} does not exist yet: give its network with --checkpoint")
        recognizer = find_recognizer(arguments.checkpoint, arguments.runs, arguments.device)
        new = empty_gallery(recognizer.digest, recognizer.checkpoint)
    cropper = _make_cropper(recognizer, arguments)
    embeddings = recognizer.embeddings(np.stack([_single_face(cropper, path) for path in images.files]))

    def add(gallery: Gallery) -> Gallery:
        check_network(gallery, arguments.gallery, recognizer.digest)
        for path, embedding in zip(images.files, embeddings, strict=True):
            if others := [other for other in gallery.people_with(embedding) if other != name]:
                raise UserError(
                    f"{path} is already enrolled as {others[0]}: leave it out, or remove {others[0]} first; "
                    "nothing was changed"
                )
        return gallery.enroll(name, embeddings)

    before, after = update_gallery(arguments.gallery, add, new)
    lines = [
        f"{name}: {after.people[name]:,} embeddings; {len(after.people):,} people in {arguments.gallery}"
    ]
    duplicates = len(embeddings) - (len(after.names) - len(before.names))
    if duplicates:
        lines.append(f"{duplicates:,} of {len(embeddings):,} images were already in the gallery")
    return CommandResult(lines)


def list_people(arguments: ListArguments) -> CommandResult:
    """List the people in a gallery. Raises `UserError` if it cannot be read."""
    gallery = load_gallery(arguments.gallery)
    if arguments.json:
        content = {
            "people": gallery.people,
            "threshold": gallery.threshold,
            "network": gallery.network,
            "checkpoint": str(gallery.checkpoint),
        }
        return CommandResult([json.dumps(content, indent=2, ensure_ascii=False)])
    threshold = "none" if gallery.threshold is None else f"{gallery.threshold:.4f}"
    return CommandResult(
        [
            *(f"{name}: {count:,} embeddings" for name, count in gallery.people.items()),
            f"{len(gallery.people):,} people; threshold: {threshold}; network {gallery.network}, "
            f"{gallery.checkpoint}",
        ]
    )


def remove(arguments: RemoveArguments) -> CommandResult:
    """Remove a person from a gallery. Raises `UserError` if the name or the file does not exist."""
    _, gallery = update_gallery(arguments.gallery, lambda gallery: gallery.remove(arguments.name))
    return CommandResult(
        [f"removed {arguments.name}; {len(gallery.people):,} people left in {arguments.gallery}"]
    )


def find_recognizer(checkpoint: str | Path, runs: Path, device: Device) -> Recognizer:
    """Load the network of a checkpoint file, or of a run given by its folder, name or number.

    Raises:
        UserError: There is no such run or file, or it contains no classifier.
    """
    path = find_run_or_checkpoint(checkpoint, runs, "train_classifier.py FOLDER")
    from faces.recognition.recognizer import load_recognizer  # imports torch, which takes seconds

    return load_recognizer(path, device=device)


def _open_gallery(path: Path, checkpoint: str | None, arguments: CropArguments) -> tuple[Gallery, Recognizer]:
    """Load a gallery and its network. Raises `UserError` if they do not belong together."""
    gallery = load_gallery(path)
    if checkpoint is None and not is_file(gallery.checkpoint):
        raise UserError(
            f"the network of {path} is no longer at {gallery.checkpoint}: give its path with --checkpoint"
        )
    recognizer = find_recognizer(checkpoint or gallery.checkpoint, arguments.runs, arguments.device)
    check_network(gallery, path, recognizer.digest)
    return gallery, recognizer


def _make_cropper(recognizer: Recognizer, arguments: CropArguments) -> FaceCropper:
    if arguments.whole_image:
        return whole_image_cropper(recognizer.side, recognizer.settings.centre)
    return detected_face_cropper(recognizer.side, arguments.detector, arguments.enlarge)


def _single_face(cropper: FaceCropper, path: Path) -> NDArray[np.uint8]:
    try:
        with report_detection_errors():
            crops = cropper(path).crops
    except UnusableImageError as unusable:
        raise UserError(f"{path} cannot be enrolled: {unusable}; nothing was changed") from None
    if len(crops) != 1:
        raise UserError(
            f"{path} cannot be enrolled: {len(crops) or 'no'} faces found; give images of one face, or crops "
            "with --whole-image; nothing was changed"
        )
    return crops[0]


def _name_faces(
    arguments: OutputArguments,
    photos: Photos,
    recognizer: Recognizer,
    possible_names: Sequence[str],
    classify: Callable[[NDArray[np.uint8]], list[tuple[str, float]]],
    score_format: str,
) -> CommandResult:
    """Name the faces in each photo; write annotated copies and a table.

    A photo that cannot be read, or has no face, becomes one of the result's problems.
    """
    cropper = _make_cropper(recognizer, arguments)
    labels = find_labels(possible_names if arguments.copies else ())
    copies = photos.copy_names() if arguments.copies else {}
    rows: list[dict[str, object]] = []
    problems = [f"{name}: {reason}" for name, reason in photos.skipped]
    illegible: list[str] = []
    table = arguments.output / TABLE
    with report_write_errors(arguments.output):
        check_output(arguments.output, SCRIPT)
        mark_output(arguments.output, SCRIPT)
        for photo in ProgressBar(photos.files, "naming faces", unit=" photos"):
            try:
                with report_detection_errors():
                    faces = cropper(photo)
            except UnusableImageError as unusable:
                problems.append(f"{photo}: {unusable}")
                continue
            if not faces.boxes:
                problems.append(f"{photo}: no face found; --whole-image skips face detection")
                continue
            predictions = classify(faces.crops)
            for number, (box, (name, score)) in enumerate(zip(faces.boxes, predictions, strict=True)):
                edges = [round(float(edge), 1) for edge in box]
                values = (str(photo), number, *edges, name, round(score, 4))
                rows.append(dict(zip(COLUMNS, values, strict=True)))
            if arguments.copies:
                illegible += [name for name, _ in predictions if name not in labels]
                captions = [
                    (labels.get(name, Label(f"face {number}")), score_format.format(score))
                    for number, (name, score) in enumerate(predictions)
                ]
                with atomic_write(arguments.output / copies[photo]) as path:
                    save_png(path, draw_names(faces.photo, faces.boxes, captions))
        write_csv(table, COLUMNS, (row.values() for row in rows))
    notes = [
        f"no installed font has the letters of {name}: copies show the face's number in {table}; "
        f"{INSTALL_HINT}"
        for name in illegible[:1]
    ]
    if arguments.json:
        return CommandResult(
            [json.dumps(rows, indent=2, ensure_ascii=False)], problems, notes, failed=not rows
        )
    lines = [
        f"{row['file']}, face {row['face']}: {row['name']} {score_format.format(row['score'])}"
        for row in rows
    ]
    if rows:
        counts = sorted(
            Counter(str(row["name"]) for row in rows).items(), key=lambda item: (-item[1], item[0])
        )
        shares = ", ".join(f"{name} {count:,} ({count / len(rows):.1%})" for name, count in counts)
        lines.append(f"{len(rows):,} faces: {shares}")
    return CommandResult([*lines, str(table)], problems, notes, failed=not rows)
