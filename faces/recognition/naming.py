"""The commands predict and identify of recognize.py: name the faces in photos."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.output import counted
from engine.png import save_png
from engine.progress import ProgressBar
from engine.runs import report_write_errors
from faces.photos import Photos, check_output, list_photos, mark_output
from faces.recognition.assignment import choose
from faces.recognition.class_threshold import load_threshold
from faces.recognition.commands import (
    SCRIPT,
    UNKNOWN,
    CommandResult,
    find_recognizer,
    make_cropper,
    open_gallery,
)
from faces.recognition.face_crops import crop_faces
from faces.recognition.gallery import check_threshold
from faces.recognition.options import IdentifyArguments, OutputArguments, PredictArguments
from faces.recognition.pictures import draw_names
from faces.tables import write_csv
from images.decode import UnusableImageError
from images.fonts import INSTALL_HINT, Label, find_labels

if TYPE_CHECKING:
    from faces.recognition.recognizer import Recognizer

COLUMNS = ("file", "face", "left", "top", "right", "bottom", "name", "score")
TABLE = "recognized.csv"
NONE_OF_THESE = "none of these"
"""What predict calls a face whose probability is below the threshold."""


def predict(arguments: PredictArguments) -> CommandResult:
    """Name the class of each face, or `NONE_OF_THESE`.

    Raises:
        UserError: the network or photos cannot be loaded, or the output cannot be written.
    """
    photos = list_photos(arguments.photos, arguments.exclude)
    photos.check_output(arguments.output)
    recognizer = find_recognizer(arguments.checkpoint, arguments.runs, arguments.device)
    threshold, notes = arguments.threshold, []
    if threshold is None:
        threshold, notes = load_threshold(recognizer)

    def classify(crops: NDArray[np.uint8]) -> list[tuple[str, float]]:
        probabilities = recognizer.probabilities(crops)
        columns = choose(probabilities, threshold, once=arguments.once)
        return [
            (NONE_OF_THESE, float(row.max()))
            if column is None
            else (recognizer.classes[column], float(row[column]))
            for row, column in zip(probabilities, columns, strict=True)
        ]

    names = [*recognizer.classes, NONE_OF_THESE]
    return _name_faces(arguments, photos, recognizer, names, classify, "{:.0%}", notes)


def identify(arguments: IdentifyArguments) -> CommandResult:
    """Identify faces by a gallery.

    Raises:
        UserError: as for `predict`, or the gallery does not fit the network or has no threshold.
    """
    photos = list_photos(arguments.photos, arguments.exclude)
    photos.check_output(arguments.output)
    gallery, recognizer = open_gallery(arguments.gallery, arguments.checkpoint, arguments)
    threshold = gallery.threshold if arguments.threshold is None else arguments.threshold
    if threshold is None:
        raise UserError(
            f"{arguments.gallery} has no threshold: calibrate it (recognize.py calibrate ... --gallery "
            f"{arguments.gallery}), or give --threshold"
        )
    check_threshold(threshold)

    def match(crops: NDArray[np.uint8]) -> list[tuple[str, float]]:
        matches = gallery.identify(recognizer.embeddings(crops), threshold, once=arguments.once)
        return [(match.name or UNKNOWN, match.similarity) for match in matches]

    return _name_faces(arguments, photos, recognizer, [*gallery.people, UNKNOWN], match, "{:.2f}")


def _name_faces(
    arguments: OutputArguments,
    photos: Photos,
    recognizer: Recognizer,
    possible_names: Sequence[str],
    classify: Callable[[NDArray[np.uint8]], list[tuple[str, float]]],
    score_format: str,
    notes: Sequence[str] = (),
) -> CommandResult:
    """Name the faces in each photo; write annotated copies and a table.

    A photo that cannot be read, or has no face, becomes one of the result's problems.
    """
    cropper = make_cropper(recognizer, arguments)
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
                faces = crop_faces(cropper, photo)
            except UnusableImageError as unusable:
                problems.append(f"{photo}: {unusable}")
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
                named = draw_names(faces.photo, faces.boxes, captions)
                save_png(arguments.output / copies[photo], named)
        write_csv(table, COLUMNS, (row.values() for row in rows))
    notes = [*photos.excluded.lines(), *notes]
    notes += [
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
        lines.append(f"{counted(len(rows), 'face')}: {shares}")
    return CommandResult([*lines, str(table)], problems, notes, failed=not rows)
