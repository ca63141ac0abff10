"""Find a threshold on labelled images, and tell what it costs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.runs import report_write_errors
from engine.worker_pool import worker_count
from faces.made import Made
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
from faces.recognition.commands import SCRIPT, CommandResult, find_recognizer
from faces.recognition.folder import load_labelled_images
from faces.recognition.gallery import Gallery, check_network, empty_gallery, load_gallery, update_gallery
from faces.recognition.options import CalibrateArguments
from faces.recognition.pictures import save_roc_chart
from faces.tables import write_csv

RATES = (0.001, 0.01, 0.1)
"""False-accept rates at which the true-accept rate is told, where there are pairs enough."""
FIGURES, CURVES, CHART = "calibration.json", "curves.csv", "roc.png"
MOST = 10_000
"""Images whose pairs are compared: 50 million pairs, which take some gigabytes."""


def calibrate(choice: CalibrateArguments) -> CommandResult:
    """Find the threshold at which the wanted share of strangers is named; write curves; tell.

    Each person of the folder is a stranger once: an image's best similarity to the others is what it would
    get were its own person not enrolled.

    Raises:
        UserError: the network, folder or gallery cannot be used, or the output not written.
    """
    recognizer = find_recognizer(choice.checkpoint, choice.runs, choice.device)
    if choice.gallery is not None:
        load_gallery(choice.gallery, recognizer.digest)  # before the images, which take their time
    with report_write_errors(choice.output):
        made = Made(choice.output, SCRIPT, (FIGURES, CURVES, CHART))
    data = load_labelled_images(
        choice.folder,
        recognizer.side,
        cache=choice.cache,
        workers=worker_count(choice.workers),
        label=choice.label,
        centre=recognizer.settings.centre,
    )
    if len(data.images) > MOST:
        raise UserError(
            f"{choice.folder} holds {len(data.images):,} images, too many to compare all pairs: calibrate on "
            f"{MOST:,} of them, or fewer"
        )
    vectors, people = recognizer.embeddings(data.images), data.class_names()
    genuine, impostor = pair_similarities(vectors, people)
    pairs = roc_curve(genuine, impostor)
    _, found = enroll_and_identify(vectors, people, choice.enrolled)
    threshold, looks = threshold_at_far(found.impostor, choice.far), len(found.impostor)
    tar = {
        rate: accept_rate(genuine, threshold_at_far(impostor, rate))
        for rate in RATES
        if has_enough_trials(rate, len(impostor))
    }
    values = {
        "network": recognizer.digest,
        "people": len(data.classes),
        "images": len(data.images),
        "threshold": threshold,
        "wanted_far": choice.far,
        "open_set": {
            "images_looked_up": looks,
            "enough_for_wanted_far": has_enough_trials(choice.far, looks),
            "strangers_named": found.false_accept_rate(threshold),
            "rightly_named": found.identification_rate(threshold),
        },
        "closed_set": {"rank_1": found.rank_1(), "balanced_rank_1": found.balanced_rank_1()},
        "verification": {
            "genuine_pairs": len(genuine),
            "impostor_pairs": len(impostor),
            "area_under_curve": pairs.area(),
            "tar_at_far": {str(rate): share for rate, share in tar.items()},
        },
    }
    lines = [
        f"{len(data.images):,} images of {len(data.classes):,} people, {choice.enrolled} of each enrolled, "
        f"{looks:,} looked up",
        f"threshold {threshold:.4f}: {found.false_accept_rate(threshold):.2%} of strangers are named "
        f"(wanted: {choice.far:.2%}), {found.identification_rate(threshold):.1%} of people are, and rightly",
        *_doubt("the threshold is a rough one", [choice.far], looks, "images looked up"),
        f"closed set: the most similar person is the right one for {found.rank_1():.1%} "
        f"(balanced over the people {found.balanced_rank_1():.1%})",
        f"{len(genuine):,} genuine pairs, {len(impostor):,} impostor pairs: area under the curve "
        f"{pairs.area():.4f}",
        *(
            f"TAR {share:.1%} at FAR {_percent(rate)}, which is {rate * len(impostor):,.0f} impostor pairs"
            for rate, share in tar.items()
        ),
        *_doubt("not told", [rate for rate in RATES if rate not in tar], len(impostor), "impostor pairs"),
    ]
    curves = {"pairs": (pairs, len(impostor)), "open set": (found.curve(), looks)}
    with report_write_errors(choice.output):
        lines += _write(made, values, curves)
    lines.append(str(choice.output))
    if choice.gallery is not None:
        path = choice.gallery

        def change(gallery: Gallery) -> Gallery:
            check_network(gallery, path, recognizer.digest)
            return gallery.with_threshold(threshold)

        update_gallery(path, change)
        lines.append(f"written into {choice.gallery}")
    return CommandResult(lines)


def enroll_and_identify(
    vectors: NDArray[np.float32], people: Sequence[str], enrolled: int
) -> tuple[Gallery, Identification]:
    """Enrol the first images of everybody, and look the others up: the gallery, and what came of it.

    Args:
        vectors: float [N, D].
        people: N names.
        enrolled: images of each person that are enrolled.

    Raises:
        UserError: nobody has more images than that.
    """
    names = np.array(people, object)
    gallery, looked_up = empty_gallery("", Path()), []
    for name in sorted({*people}):
        rows = np.flatnonzero(names == name)
        if len(rows) <= enrolled:
            raise UserError(
                f"{name} has {len(rows)} images: to enroll {enrolled} and look others up takes more"
            )
        gallery = gallery.enroll(name, vectors[rows[:enrolled]])
        looked_up.extend(rows[enrolled:])
    similarities = gallery.similarities(vectors[looked_up])
    return gallery, score_identification(similarities, list(names[looked_up]), list(gallery.people))


def _doubt(consequence: str, rates: Sequence[float], count: int, what: str) -> list[str]:
    """A line on the rates that so many trials cannot bear; none where there is no such rate."""
    doubtful = [rate for rate in rates if not has_enough_trials(rate, count)]
    if not doubtful:
        return []
    takes = [
        f"FAR {_percent(rate)} takes {math.ceil(MIN_FALSE_ACCEPTS / rate - 1e-6):,} {what}"
        if rate
        else f"FAR 0 is shown by no number of {what}"
        for rate in doubtful
    ]
    return [f"{consequence}: {', '.join(takes)}, as a rate needs {MIN_FALSE_ACCEPTS} false accepts or more"]


def _percent(rate: float) -> str:
    return f"{100 * rate:g}%"


def _write(made: Made, values: dict[str, object], curves: dict[str, tuple[RocCurve, int]]) -> list[str]:
    """Write figures, and curves with the number of similarities of which `far` is a share; lines to print."""
    with made.atomic_write(FIGURES) as path:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    header = ["curve", "threshold", "false accept rate", "true accept rate"]
    thin = {name: curve.thinned() for name, (curve, _) in curves.items()}
    rows = (
        [name, *point]
        for name, curve in thin.items()
        for point in zip(curve.thresholds, curve.far, curve.tar, strict=True)
    )
    with made.atomic_write(CURVES) as path:
        write_csv(path, header, rows)
    try:
        with made.atomic_write(CHART) as path:
            save_roc_chart(path, curves)
    except UserError as error:
        return [f"no picture of the curves: {error}"]
    return []
