"""From a command line to a landmark trainer: a new run, a resumed one, or one that starts from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UserError
from engine.output import counted, one_line
from engine.setup import Plan, Task, check_data
from engine.setup import make_plan as make_task_plan
from engine.worker_pool import worker_count
from faces.landmarks.annotations import Annotations, read_annotations
from faces.landmarks.face_crops import FaceCrops, load_face_crops
from faces.landmarks.geometry import bounding_boxes, squares_around
from faces.landmarks.point_order import check_order
from faces.landmarks.point_set import BUILT_IN, PointSet, built_in_point_set, load_point_set
from faces.landmarks.settings import NETWORK_SETTINGS, TASK_NAME, LandmarkArguments, LandmarkSettings, check
from faces.landmarks.trainer import LandmarkTrainer
from faces.settings import RESUMABLE, upgrade

MIN_TRAINING_FACES = 8
MIN_SCALE = 0.05
"""Minimum distance of the two points of `scale`, over the longer side of the landmarks' bounding box.

Errors are divided by this distance, which is about 0.57 on a frontal face. Faces below the minimum are within
five degrees of full profile, or annotated by mistake. They would count eleven times as much or more; and with
a distance of 0 the score would be infinite, so that no step could ever be the best.
"""


def _absolute(settings: LandmarkSettings) -> LandmarkSettings:
    """Make the paths of the table and the point set absolute."""
    if settings.csv:
        settings = replace(settings, csv=settings.csv.absolute())
    if settings.points and settings.points not in BUILT_IN:
        settings = replace(settings, points=str(Path(settings.points).absolute()))
    return settings


LANDMARKS = Task(
    name=TASK_NAME,
    script="train_landmarks.py FOLDER",
    settings=LandmarkSettings,
    arguments=LandmarkArguments,
    check=check,
    network=NETWORK_SETTINGS,
    # The digest of the data covers what these select.
    resumable=RESUMABLE | {"csv", "person"},
    upgrade=upgrade,
    absolute=_absolute,
)


@dataclass(frozen=True)
class LandmarkData:
    """Face crops, and what their landmarks are."""

    face_crops: FaceCrops
    point_set: PointSet
    notes: tuple[str, ...]

    def summary(self) -> str:
        """Numbers of faces, people and points; on a second line, the first file that was left out."""
        face_crops = self.face_crops
        held_out = face_crops.held_out_indices
        outside, faces = face_crops.outside
        return (
            f"{len(face_crops.images):,} faces of {len({*face_crops.people}):,} people from "
            f"{face_crops.folder} ({len(face_crops.skipped):,} left out), {self.point_set.count} points each "
            f"({self.point_set.name}); {len(held_out):,} faces of "
            f"{len({face_crops.people[row] for row in held_out}):,} people held out; "
            f"outside their image: {counted(outside, 'point')} of {counted(faces, 'face')}"
            + "".join(
                f"\n{one_line(f'the first left out: {name}: {reason}')}"
                for name, reason in face_crops.skipped[:1]
            )
            + "".join(f"\n{note}" for note in self.notes)
        )

    def facts(self) -> dict[str, Any]:
        """Entries for `data` in config.json."""
        return self.face_crops.facts() | {"point_set": self.point_set.name}


def make_plan(argv: Sequence[str]) -> Plan[LandmarkSettings]:
    """Parse a command line; see `engine.setup.make_plan`.

    Raises:
        UserError: as there; or layers of an untrained network would be frozen.
    """
    plan = make_task_plan(argv, LANDMARKS)
    settings = plan.settings
    if plan.resumed and settings.csv and not settings.csv.exists():
        raise UserError(
            f"{settings.csv}, the table of {plan.resumed}, is no longer there: give the new --csv"
        )
    if settings.freeze and settings.weights == "none" and plan.resumed is None and plan.source is None:
        raise UserError("--freeze needs trained layers: add --weights or --init-from")
    return plan


def load_data(plan: Plan[LandmarkSettings], folder: Path) -> LandmarkData:
    """Read the landmarks of a folder and crop its faces.

    Raises:
        UserError: the folder, its table or the point set cannot be used; there are too few people or faces;
            or a resumed run was trained on other data.
    """
    settings = plan.settings
    annotations = read_annotations(folder, settings.csv, settings.person, settings.exclude)
    count = annotations.points.shape[1]
    point_set = load_point_set(settings.points) if settings.points else built_in_point_set(count)
    if point_set.count != count:
        raise UserError(
            f"{folder} has {count} points a face, but the point set {point_set.name} has {point_set.count}"
        )
    notes = (*annotations.notes, *check_order(annotations, point_set))
    annotations, skipped = _remove_without_scale(annotations, point_set)
    face_crops = load_face_crops(
        annotations,
        settings.image_size,
        cache=settings.cache,
        workers=worker_count(settings.workers),
        held_out=settings.held_out,
        exclude=settings.exclude,
    )
    face_crops = replace(face_crops, skipped=sorted([*face_crops.skipped, *skipped]))
    if len(face_crops.training_indices) < MIN_TRAINING_FACES or not len(face_crops.held_out_indices):
        raise UserError(
            f"{folder} has {counted(len(face_crops.images), 'face')} of "
            f"{counted(len({*face_crops.people}), 'person', 'people')}: too few to "
            f"hold some people out and train on {MIN_TRAINING_FACES} faces (--person says how files name "
            "people)"
        )
    _check_marked(face_crops, point_set)
    check_data(plan, face_crops.digest, len(face_crops.images))
    return LandmarkData(face_crops, point_set, notes)


def _check_marked(face_crops: FaceCrops, point_set: PointSet) -> None:
    """Raise `UserError` if a point is never marked, so that nothing can be learned about it."""
    never = np.isnan(face_crops.points[face_crops.training_indices]).any(-1).all(0)
    if never.any():
        names = ", ".join(np.array(point_set.points)[never])
        raise UserError(
            f"{face_crops.folder} has no face to train on with a marked {names}; remove the columns, and "
            "describe the other points with --points"
        )


def _remove_without_scale(
    annotations: Annotations, point_set: PointSet
) -> tuple[Annotations, list[tuple[str, str]]]:
    """Remove faces below `MIN_SCALE` or without a scale; also returns (file, reason) of each of them."""
    first, second = point_set.scale_indices
    distances = np.linalg.norm(annotations.points[:, first] - annotations.points[:, second], axis=-1)
    # The distance is NaN if one of both is not marked.
    removed = ~(distances >= MIN_SCALE * squares_around(bounding_boxes(annotations.points))[:, 2])
    skipped = [
        (
            annotations.files[row],
            f"{annotations.locations[row]}: {' and '.join(point_set.scale)}, by whose distance errors are "
            "divided, are "
            + (
                "not both marked"
                if np.isnan(distances[row])
                else f"closer than {MIN_SCALE:.0%} of the landmarks' bounding box"
            ),
        )
        for row in np.flatnonzero(removed)
    ]
    if removed.all():
        name, reason = skipped[0]
        raise UserError(f"{annotations.folder}: no face is left; the first is {name}: {reason}")
    return annotations.select(np.flatnonzero(~removed)), skipped


def make_trainer(plan: Plan[LandmarkSettings], data: LandmarkData) -> LandmarkTrainer:
    """A trainer at step 0, with the network of the source run, if there is one. Nothing is written yet.

    Raises:
        UserError: the source has no usable checkpoint, or one for other points; or the backbone or its
            weights cannot be loaded.
    """
    source = plan.source_state()
    new = plan.resumed is None and source is None
    trainer = LandmarkTrainer(plan.settings, data.face_crops, data.point_set, plan.device, pretrained=new)
    if source:
        path, state = source
        points = state["point_set"]["points"]
        if points != list(data.point_set.points):
            raise UserError(
                f"cannot start from {path}: it predicts {len(points)} points ({state['point_set']['name']}), "
                f"but the data have {data.point_set.count} ({data.point_set.name})"
            )
        trainer.updater.load_network(state)
        print(f"starting from the network of {path}")
    return trainer
