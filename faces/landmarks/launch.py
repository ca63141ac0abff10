"""From what a user of train_landmarks.py asks for to a learner that is ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UserError
from engine.setup import Plan, Task, check_data
from engine.setup import make_plan as make_task_plan
from engine.worker_pool import worker_count
from faces.landmarks.annotations import Annotations, read_annotations
from faces.landmarks.face_crops import FaceCrops, load_face_crops
from faces.landmarks.geometry import bounding_boxes, squares_around
from faces.landmarks.learner import KIND, LandmarkLearner
from faces.landmarks.point_order import check_order
from faces.landmarks.point_set import BUILT_IN, PointSet, built_in_point_set, load_point_set
from faces.landmarks.settings import NETWORK, LandmarkArguments, LandmarkSettings, check
from faces.settings import RESUMABLE, upgrade


def _absolute(settings: LandmarkSettings) -> LandmarkSettings:
    """The settings with the paths of the table and the point set from the root."""
    if settings.csv:
        settings = replace(settings, csv=settings.csv.absolute())
    if settings.points and settings.points not in BUILT_IN:
        settings = replace(settings, points=str(Path(settings.points).absolute()))
    return settings


LANDMARKS = Task(
    KIND,
    "train_landmarks.py FOLDER",
    LandmarkSettings,
    LandmarkArguments,
    check,
    NETWORK,
    RESUMABLE,
    upgrade,
    _absolute,
)
FEWEST = 8
"""Faces to train on."""
NEAREST = 0.05
"""Distance of the two points of `scale` over the longer side of a face's box, below which it is left out.

Errors are divided by that distance, which is some 0.57 on a face seen from the front. A face with less than a
twentieth of its box, turned to within five degrees of full profile or marked by mistake, would count eleven
times as much and more; with none at all its error is infinite, and no step would ever be the best.
"""


@dataclass(frozen=True)
class LandmarkData:
    """What is trained on: faces, and what their points are."""

    face_crops: FaceCrops
    points: PointSet
    notes: tuple[str, ...]

    def summary(self) -> str:
        """How many there are, who is held out, what lies outside; in a second line the first left out."""
        face_crops = self.face_crops
        outside, faces = face_crops.outside
        people, held = {*face_crops.people}, {face_crops.people[row] for row in face_crops.held_rows}
        return (
            f"{len(face_crops.images):,} faces of {len(people):,} people from {face_crops.folder} "
            f"({len(face_crops.skipped):,} left out), {self.points.count} points each ({self.points.name}); "
            f"{len(face_crops.held_rows):,} faces of {len(held):,} people held out; "
            f"{outside:,} points of {faces:,} faces lie outside their image"
            + "".join(f"\nleft out first: {name}: {reason}" for name, reason in face_crops.skipped[:1])
            + "".join(f"\n{note}" for note in self.notes)
        )

    def facts(self) -> dict[str, Any]:
        """What config.json tells of the data."""
        return self.face_crops.facts() | {"point_set": self.points.name}


def make_plan(words: Sequence[str]) -> Plan[LandmarkSettings]:
    """Read a command line; see `engine.setup.make_plan`.

    Raises:
        UserError: as there; or layers are to be frozen that have learnt nothing.
    """
    plan = make_task_plan(words, LANDMARKS)
    settings = plan.settings
    if settings.freeze and settings.weights == "none" and plan.resumed is None and plan.source is None:
        raise UserError(
            "--freeze keeps layers as they are, and these have learnt nothing; see --weights, --init-from"
        )
    return plan


def load_data(plan: Plan[LandmarkSettings], folder: Path) -> LandmarkData:
    """Read the landmarks of a folder and cut out its faces.

    Raises:
        UserError: what is wrong with the folder, its CSV or the point set; too few people or faces; or not
            the data that a resumed run was trained on.
    """
    settings = plan.settings
    annotations = read_annotations(folder, settings.csv, settings.person)
    count = annotations.points.shape[1]
    points = load_point_set(settings.points) if settings.points else built_in_point_set(count)
    if points.count != count:
        raise UserError(
            f"{folder} has {count} points a face, but the point set {points.name} has {points.count}"
        )
    notes = (*annotations.notes, *check_order(annotations, points))
    annotations, near = _with_scale(annotations, points)
    face_crops = load_face_crops(
        annotations,
        settings.image_size,
        cache=settings.cache,
        workers=worker_count(settings.workers),
        share_held=settings.held_out,
    )
    face_crops = replace(face_crops, skipped=sorted([*face_crops.skipped, *near]))
    if len(face_crops.trained) < FEWEST or not len(face_crops.held_rows):
        raise UserError(
            f"{folder} has {len(face_crops.images)} faces of {len({*face_crops.people})} people: too few to "
            f"train on {FEWEST} and to hold some people out (--person says how files name people)"
        )
    _check_marked(face_crops, points)
    check_data(plan, face_crops.digest, len(face_crops.images))
    return LandmarkData(face_crops, points, notes)


def _check_marked(face_crops: FaceCrops, points: PointSet) -> None:
    """Raise `UserError` if a point is never marked, so that nothing can be learned about it."""
    never = np.isnan(face_crops.points[face_crops.trained]).any(-1).all(0)
    if never.any():
        names = ", ".join(np.array(points.points)[never])
        raise UserError(
            f"{face_crops.folder} has no face to train on with a marked {names}; remove the columns, and "
            "describe the other points with --points"
        )


def _with_scale(annotations: Annotations, points: PointSet) -> tuple[Annotations, list[tuple[str, str]]]:
    """The faces by whose `scale` errors can be divided, and (file, reason) of the others."""
    one, other = points.scale_indices
    distances = np.linalg.norm(annotations.points[:, one] - annotations.points[:, other], axis=-1)
    near = ~(distances >= NEAREST * squares_around(bounding_boxes(annotations.points))[:, 2])
    left_out = [
        (
            annotations.files[row],
            f"{annotations.locations[row]}: {' and '.join(points.scale)}, by whose distance errors are "
            "divided, are "
            + (
                "not both marked"
                if np.isnan(distances[row])
                else f"nearer to each other than {NEAREST:.0%} of the landmarks' box"
            ),
        )
        for row in np.flatnonzero(near)
    ]
    if near.all():
        name, reason = left_out[0]
        raise UserError(f"{annotations.folder}: no face is left; the first is {name}: {reason}")
    return annotations.select(np.flatnonzero(~near)), left_out


def make_learner(plan: Plan[LandmarkSettings], data: LandmarkData) -> LandmarkLearner:
    """A learner at step 0, with the network of the run begun from, if any. Nothing is written yet.

    Raises:
        UserError: that run has no usable checkpoint or other points, or the backbone is not to be had.
    """
    begun = plan.resumed is not None or plan.source is not None
    learner = LandmarkLearner(plan.settings, data.face_crops, data.points, plan.device, pretrained=not begun)
    source = plan.source_state()
    if source:
        path, state = source
        theirs = state["point_set"]["points"]
        if theirs != list(data.points.points):
            raise UserError(
                f"{path} finds {len(theirs)} points ({state['point_set']['name']}), but the data have "
                f"{data.points.count} ({data.points.name}): it cannot be begun from"
            )
        learner.load_network(state)
        print(f"beginning with the network of {path}")
    return learner
