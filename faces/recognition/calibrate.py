"""The calibrate command: find a threshold on labelled images, and measure its error rates."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import atomic_write
from engine.output import counted
from engine.progress import ProgressBar
from engine.runs import report_write_errors
from engine.worker_pool import worker_count
from faces.photos import check_output, mark_output
from faces.recognition.calibration import (
    MIN_FALSE_ACCEPTS,
    Identification,
    RocCurve,
    accept_rate,
    has_enough_trials,
    pair_similarities,
    roc_curve,
    score_identification,
    threshold_at_far,
)
from faces.recognition.class_threshold import save_threshold
from faces.recognition.commands import SCRIPT, CommandResult, find_recognizer, make_cropper
from faces.recognition.face_crops import crop_single_face
from faces.recognition.folder import load_labelled_images
from faces.recognition.gallery import Gallery, check_network, empty_gallery, load_gallery, update_gallery
from faces.recognition.open_set import measure
from faces.recognition.options import CalibrateArguments
from faces.recognition.pictures import save_roc_chart
from faces.tables import write_csv
from images.dataset import load_folder
from images.decode import UnusableImageError
from images.tiles import centre_crop

if TYPE_CHECKING:
    from faces.recognition.recognizer import Recognizer

FALSE_ACCEPT_RATES = (0.001, 0.01, 0.1)
"""The true-accept rate is reported at each of these that has enough impostor pairs."""
MAX_IMAGES = 10_000
"""Limit on the images to compare: 50 million pairs, which take some gigabytes."""


def calibrate(arguments: CalibrateArguments) -> CommandResult:
    """Find the threshold for a false-accept rate and, for a gallery, write the scores and curves.

    Each person serves as a stranger too: an image's best similarity to the others is what it would get if
    its own person were not enrolled.

    Raises:
        UserError: the network, folder or gallery cannot be used, or the output cannot be written.
    """
    recognizer = find_recognizer(arguments.checkpoint, arguments.runs, arguments.device)
    if arguments.classes:
        return calibrate_classes(arguments, recognizer)
    if arguments.gallery is not None:
        load_gallery(arguments.gallery, recognizer.digest)  # fail before the images are decoded
    with report_write_errors(arguments.output):
        check_output(arguments.output, SCRIPT)
    data = load_labelled_images(
        arguments.folder,
        recognizer.side,
        cache=arguments.cache,
        workers=worker_count(arguments.workers),
        label=arguments.label,
        centre=recognizer.settings.centre,
        exclude=arguments.exclude,
    )
    if len(data.images) > MAX_IMAGES:
        raise UserError(
            f"{arguments.folder} contains {len(data.images):,} images, too many to compare all pairs: "
            f"calibrate on at most {MAX_IMAGES:,} of them"
        )
    problems = [f"{file}: {reason}" for file, reason in data.skipped]
    rows, faces = labelled_faces(recognizer, arguments, data.folder, data.files, data.images, problems)
    names = data.class_names()
    embeddings, people = recognizer.embeddings(faces), [names[row] for row in rows]
    genuine, impostor = pair_similarities(embeddings, people)
    pairs = roc_curve(genuine, impostor)
    _, result = enroll_and_identify(embeddings, people, arguments.enrolled)
    threshold, identified = threshold_at_far(result.impostor, arguments.far), len(result.impostor)
    true_accept_rates = {
        far: accept_rate(genuine, threshold_at_far(impostor, far))
        for far in FALSE_ACCEPT_RATES
        if has_enough_trials(far, len(impostor))
    }
    scores = {
        "network": recognizer.digest,
        "people": len({*people}),
        "images": len(people),
        "threshold": threshold,
        "wanted_far": arguments.far,
        "open_set": {
            "images_looked_up": identified,
            "enough_for_wanted_far": has_enough_trials(arguments.far, identified),
            "strangers_named": result.false_accept_rate(threshold),
            "rightly_named": result.identification_rate(threshold),
        },
        "closed_set": {"rank_1": result.rank_1(), "balanced_rank_1": result.balanced_rank_1()},
        "verification": {
            "genuine_pairs": len(genuine),
            "impostor_pairs": len(impostor),
            "area_under_curve": pairs.area(),
            "tar_at_far": {str(far): tar for far, tar in true_accept_rates.items()},
        },
    }
    unsupported = [far for far in FALSE_ACCEPT_RATES if far not in true_accept_rates]
    lines = [
        f"{len(people):,} images of {len({*people}):,} people: {arguments.enrolled} of each "
        f"enrolled, {identified:,} identified",
        f"threshold {threshold:.4f}: false-accept rate {result.false_accept_rate(threshold):.2%} (requested: "
        f"{arguments.far:.2%}), identification rate {result.identification_rate(threshold):.1%}",
        *_too_few_trials("the threshold is approximate", [arguments.far], identified, "identified images"),
        f"closed set: rank-1 accuracy {result.rank_1():.1%} (mean over the people "
        f"{result.balanced_rank_1():.1%})",
        f"{len(genuine):,} genuine pairs, {len(impostor):,} impostor pairs: area under the curve "
        f"{pairs.area():.4f}",
        *(
            f"TAR {tar:.1%} at FAR {100 * far:g}% ({far * len(impostor):,.0f} impostor pairs)"
            for far, tar in true_accept_rates.items()
        ),
        *_too_few_trials("not reported", unsupported, len(impostor), "impostor pairs"),
    ]
    curves = {"pairs": (pairs, len(impostor)), "open set": (result.curve(), identified)}
    with report_write_errors(arguments.output):
        lines += _write(arguments.output, scores, curves)
    lines.append(str(arguments.output))
    if arguments.gallery is not None:
        path = arguments.gallery
        best_of_known = np.maximum(result.genuine, result.impostor)
        open_set = measure("cosine", best_of_known, result.impostor)

        def set_threshold(gallery: Gallery) -> Gallery:
            check_network(gallery, path, recognizer.digest)
            return gallery.with_threshold(threshold, open_set)

        update_gallery(path, set_threshold)
        lines.append(f"threshold written to {path}")
    return CommandResult(lines, problems, data.excluded.lines())


def calibrate_classes(arguments: CalibrateArguments, recognizer: Recognizer) -> CommandResult:
    """Find the threshold of predict for a false-accept rate, and write it beside the checkpoint.

    Raises:
        UserError: the folder cannot be used or contains no strangers, or the threshold cannot be written.
    """
    settings = recognizer.settings
    data = load_folder(
        arguments.folder,
        round(recognizer.side / settings.centre),
        cache=arguments.cache,
        workers=worker_count(arguments.workers),
        exclude=arguments.exclude,
        progress=False,
    )
    problems = [f"{file}: {reason}" for file, reason in data.skipped]
    images = centre_crop(data.images, recognizer.side)
    rows, faces = labelled_faces(recognizer, arguments, data.folder, data.files, images, problems)
    probabilities = recognizer.probabilities(faces)
    classes = np.array([_class_index(data.files[row], recognizer.classes) for row in rows])
    best, predicted = probabilities.max(1), probabilities.argmax(1)
    strangers, known = best[classes < 0], classes >= 0
    if not len(strangers):
        raise UserError(f"{arguments.folder} contains images of the classes only: add images of others")
    threshold = threshold_at_far(strangers, arguments.far)
    far = accept_rate(strangers, threshold)
    count = len(strangers)
    lines = [
        f"{count:,} images of strangers, {known.sum():,} of the classes",
        f"threshold {threshold:.4f}: false-accept rate {far:.2%} (requested: {arguments.far:.2%})",
        *_too_few_trials("the threshold is approximate", [arguments.far], count, "images of strangers"),
    ]
    if known.any():
        right = predicted[known] == classes[known]
        kept = right & (best[known] >= threshold)
        lines.append(
            f"of the classes' images, {right.mean():.1%} get the right name without the threshold, and "
            f"{kept.mean():.1%} with it"
        )
    open_set = measure("probability", best[known], strangers)
    lines.append(f"threshold written to {save_threshold(recognizer, threshold, open_set)}")
    return CommandResult(lines, problems, data.excluded.lines())


def _class_index(file: str, classes: Sequence[str]) -> int:
    """The class after which the first folder in a file's path is named; -1 for strangers."""
    folder = file.partition("/")[0] if "/" in file else None
    return classes.index(folder) if folder in classes else -1


def labelled_faces(
    recognizer: Recognizer,
    arguments: CalibrateArguments,
    folder: Path,
    files: Sequence[str],
    images: NDArray[np.uint8],
    problems: list[str],
) -> tuple[list[int], NDArray[np.uint8]]:
    """The face of each image: detected in it or, with `whole_image`, the image itself.

    Args:
        recognizer: the network.
        arguments: how faces are cropped.
        folder: of the files.
        files: N names.
        images: uint8 [N, 3, T, T], cropped as in training.
        problems: gets a line for each image that is left out.

    Returns:
        The rows of the M images with a face, and their crops, uint8 [M, 3, T, T].

    Raises:
        UserError: no image has a face, or the detector cannot be loaded.
    """
    if arguments.whole_image:
        return list(range(len(files))), images
    cropper, crops = make_cropper(recognizer, arguments), {}
    for row, file in enumerate(ProgressBar(files, "detecting faces", unit=" images")):
        try:
            crops[row] = crop_single_face(cropper, folder / file, largest=arguments.largest_face)
        except UnusableImageError as unusable:
            problems.append(f"{file}: {unusable}")
    if not crops:
        raise UserError(
            f"no face found in any of the {len(files):,} images of {folder}: if they are crops of faces, add "
            "--whole-image"
        )
    return list(crops), np.stack([*crops.values()])


def enroll_and_identify(
    embeddings: NDArray[np.float32], people: Sequence[str], enrolled: int
) -> tuple[Gallery, Identification]:
    """Enroll the first images of each person, and identify the others.

    Args:
        embeddings: float [N, D].
        people: N names.
        enrolled: images of each person to enroll.

    Returns:
        The gallery, and the similarities of the other images to it.

    Raises:
        UserError: a person has no image beyond the enrolled ones.
    """
    names = np.array(people, object)
    gallery, others = empty_gallery("", Path()), []
    for name in sorted({*people}):
        rows = np.flatnonzero(names == name)
        if len(rows) <= enrolled:
            raise UserError(
                f"{name} has {counted(len(rows), 'image')}: enrolling {enrolled} leaves none to identify: "
                "give a smaller --enrolled, or add images"
            )
        gallery = gallery.enroll(name, embeddings[rows[:enrolled]])
        others.extend(rows[enrolled:])
    similarities = gallery.similarities(embeddings[others])
    return gallery, score_identification(similarities, list(names[others]), list(gallery.people))


def _too_few_trials(consequence: str, rates: Sequence[float], count: int, trials: str) -> list[str]:
    """A line on the rates for which `count` trials are too few, if there are any."""
    required = [
        f"FAR {100 * far:g}% requires {math.ceil(MIN_FALSE_ACCEPTS / far - 1e-6):,} {trials}"
        if far
        else f"no number of {trials} shows a FAR of 0"
        for far in rates
        if not has_enough_trials(far, count)
    ]
    if not required:
        return []
    return [f"{consequence}: {', '.join(required)} (a rate needs {MIN_FALSE_ACCEPTS} false accepts)"]


def _write(output: Path, scores: dict[str, object], curves: dict[str, tuple[RocCurve, int]]) -> list[str]:
    """Write the scores, and curves with their numbers of impostor similarities; return lines to print."""
    mark_output(output, SCRIPT)
    with atomic_write(output / "calibration.json") as path:
        path.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    rows = (
        [name, *point]
        for name, (curve, _) in curves.items()
        for thin in [curve.thinned()]
        for point in zip(thin.thresholds, thin.far, thin.tar, strict=True)
    )
    write_csv(output / "curves.csv", ["curve", "threshold", "false accept rate", "true accept rate"], rows)
    try:
        save_roc_chart(output / "roc.png", curves)
    except UserError as error:
        return [f"roc.png was not drawn: {error}"]
    return []
