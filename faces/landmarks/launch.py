"""From what a user of train_landmarks.py asks for to a learner that is ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faces.landmarks.annotations import read_annotations
from faces.landmarks.learner import KIND, LandmarkLearner
from faces.landmarks.point_set import SHIPPED, PointSet, point_set, point_set_of
from faces.landmarks.settings import NETWORK, LandmarkRequest, LandmarkSettings, check
from faces.landmarks.tiles import Tiles, load_tiles
from faces.launch import Kind, Plan, check_data
from faces.launch import make_plan as make_any_plan
from gan.errors import UserError
from gan.processes import worker_count

LANDMARKS = Kind(KIND, "train_landmarks.py FOLDER", LandmarkSettings, LandmarkRequest, check, NETWORK)
FEWEST = 8
"""Faces to train on."""


@dataclass(frozen=True)
class LandmarkData:
    """What is trained on: faces, and what their points are."""

    tiles: Tiles
    points: PointSet

    def summary(self) -> str:
        """One line: how many there are, who is held out, what was left out, what lies outside."""
        tiles = self.tiles
        outside, faces = tiles.outside
        people, held = {*tiles.people}, {tiles.people[row] for row in tiles.held_rows}
        return (
            f"{len(tiles.images):,} faces of {len(people):,} people from {tiles.folder} "
            f"({len(tiles.skipped):,} left out), {self.points.count} points each ({self.points.name}); "
            f"{len(tiles.held_rows):,} faces of {len(held):,} people held out; "
            f"{outside:,} points of {faces:,} faces lie outside their image"
        )

    def facts(self) -> dict[str, Any]:
        """What config.json tells of the data."""
        return self.tiles.facts() | {"point_set": self.points.name}


def make_plan(words: Sequence[str]) -> Plan[LandmarkSettings]:
    """Read a command line; see `faces.launch.make_plan`.

    Raises:
        UserError: as there; or layers are to be frozen that have learnt nothing.
    """
    plan = make_any_plan(words, LANDMARKS)
    settings = plan.settings
    if settings.freeze and settings.weights == "none" and plan.resumed is None and plan.source is None:
        raise UserError(
            "--freeze keeps layers as they are, and these have learnt nothing; see --weights, --init-from"
        )
    if plan.resumed is not None:
        return plan
    # As the folder: a run may be resumed from another working directory.
    if settings.csv:
        settings = replace(settings, csv=settings.csv.absolute())
    if settings.points and settings.points not in SHIPPED:
        settings = replace(settings, points=str(Path(settings.points).absolute()))
    return replace(plan, settings=settings)


def load_data(plan: Plan[LandmarkSettings], folder: Path) -> LandmarkData:
    """Read the landmarks of a folder and cut out its faces.

    Raises:
        UserError: what is wrong with the folder, its CSV or the point set; too few people or faces; or not
            the data that a resumed run was trained on.
    """
    settings = plan.settings
    annotations = read_annotations(folder, settings.csv, settings.person)
    count = annotations.points.shape[1]
    points = point_set(settings.points) if settings.points else point_set_of(count)
    if points.count != count:
        raise UserError(
            f"{folder} has {count} points a face, but the point set {points.name} has {points.count}"
        )
    one, other = points.scale_numbers
    together = (annotations.points[:, one] == annotations.points[:, other]).all(-1)
    if together.any():
        raise UserError(
            f"{folder}: on {annotations.files[together.argmax()]} {' and '.join(points.scale)}, by whose "
            "distance errors are divided, are in one place; mend its row, or take it out"
        )
    tiles = load_tiles(
        annotations,
        settings.image_size,
        cache=settings.cache,
        workers=worker_count(settings.workers),
        share_held=settings.held_out,
    )
    if len(tiles.trained) < FEWEST or not len(tiles.held_rows):
        raise UserError(
            f"{folder} has {len(tiles.images)} faces of {len({*tiles.people})} people: too few to train on "
            f"{FEWEST} and to hold some people out (--person says how files name people)"
        )
    check_data(plan, tiles.digest, len(tiles.images))
    return LandmarkData(tiles, points)


def make_learner(plan: Plan[LandmarkSettings], data: LandmarkData) -> LandmarkLearner:
    """A learner at step 0, with the network of the run begun from, if any. Nothing is written yet.

    Raises:
        UserError: that run has no usable checkpoint or other points, or the backbone is not to be had.
    """
    begun = plan.resumed is not None or plan.source is not None
    learner = LandmarkLearner(plan.settings, data.tiles, data.points, plan.device, pretrained=not begun)
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
