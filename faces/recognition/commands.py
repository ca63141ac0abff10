"""Commands of recognize.py for galleries, and what all share. torch is imported where a network is used."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import is_file
from engine.output import counted, one_line
from engine.runs import find_run_or_checkpoint
from engine.settings import Device
from faces.photos import list_photos
from faces.recognition.face_crops import (
    FaceCropper,
    crop_single_face,
    detected_face_cropper,
    whole_image_cropper,
)
from faces.recognition.gallery import (
    Gallery,
    check_network,
    empty_gallery,
    gallery_exists,
    load_gallery,
    normalize_name,
    update_gallery,
)
from faces.recognition.options import (
    CropArguments,
    EnrollArguments,
    ListArguments,
    RemoveArguments,
)
from images.decode import UnusableImageError

if TYPE_CHECKING:
    from faces.recognition.recognizer import Recognizer

SCRIPT = "recognize.py"
UNKNOWN = "unknown"
"""What identify calls strangers."""


@dataclass(frozen=True)
class CommandResult:
    """Output of a command.

    Attributes:
        lines: standard output.
        problems: one line for each image that gave no result.
        notes: remarks, one line each.
        failed: whether no image gave a result; the exit code is then 2.
    """

    lines: list[str]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: bool = False

    def show(self) -> int:
        """Print the result and return the exit code."""
        print("\n".join(self.lines))
        for note in self.notes:
            print(one_line(f"note: {note}"), file=sys.stderr)
        for problem in self.problems:
            print(one_line(f"{'error' if self.failed else 'left out'}: {problem}"), file=sys.stderr)
        return 2 if self.failed else 0


def enroll(arguments: EnrollArguments) -> CommandResult:
    """Add a person to a gallery, by the images with exactly one face or, with `largest_face`, at least one.

    Other images become problems of the result. Those that are already in the gallery are counted and skipped.

    Raises:
        UserError: no image can be enrolled, or one is enrolled under another name; the network is missing or
            is not the gallery's; the gallery cannot be written; the name is invalid.
    """
    name = check_name(arguments.name)
    images = list_photos(arguments.images, arguments.exclude)
    new = None
    if gallery_exists(arguments.gallery):
        _, recognizer = open_gallery(arguments.gallery, arguments.checkpoint, arguments)
    else:
        if arguments.checkpoint is None:
            raise UserError(f"{arguments.gallery} does not exist yet: give its network with --checkpoint")
        recognizer = find_recognizer(arguments.checkpoint, arguments.runs, arguments.device)
        new = empty_gallery(recognizer.digest, recognizer.checkpoint)
    cropper = make_cropper(recognizer, arguments)
    problems = [f"{file}: {reason}" for file, reason in images.skipped]
    faces: dict[Path, NDArray[np.uint8]] = {}
    for path in images.files:
        try:
            faces[path] = crop_single_face(cropper, path, largest=arguments.largest_face)
        except UnusableImageError as unusable:
            problems.append(f"{path}: {unusable}")
    if not faces:
        several = f" ({len(problems):,} tried); the first" if len(problems) > 1 else ""
        raise UserError(f"no image can be enrolled{several}: {problems[0]}")
    embeddings = recognizer.embeddings(np.stack([*faces.values()]))
    labelled = dict(zip(map(str, faces), embeddings, strict=True))
    before, after = add_to_gallery(arguments.gallery, recognizer, name, labelled, new)
    lines = [
        f"{name}: {counted(after.people[name], 'embedding')}; "
        f"{counted(len(after.people), 'person', 'people')} in {arguments.gallery}"
    ]
    duplicates = len(embeddings) - (len(after.names) - len(before.names))
    if duplicates:
        lines.append(f"already in the gallery: {duplicates:,} of {counted(len(embeddings), 'image')}")
    return CommandResult(lines, problems, images.excluded.lines())


def check_name(name: str) -> str:
    """A person's name as `normalize_name` returns it. Raises `UserError` if it is invalid or `UNKNOWN`."""
    name = normalize_name(name)
    if name.casefold() == UNKNOWN:
        raise UserError(f"the name {name} stands for strangers: give another name")
    return name


def add_to_gallery(
    path: Path,
    recognizer: Recognizer,
    name: str,
    embeddings: Mapping[str, NDArray[np.float32]],
    new: Gallery | None = None,
) -> tuple[Gallery, Gallery]:
    """Add a person's embeddings to a gallery file.

    Args:
        path: file of the gallery.
        recognizer: network of the embeddings.
        name: of the person, as `check_name` returns it.
        embeddings: float32 [D] of each image, by what to call it in an error message.
        new: the gallery to add to if the file does not exist.

    Returns:
        The gallery before and after.

    Raises:
        UserError: an image is enrolled under another name; the gallery is of another network, or cannot be
            read or written.
    """

    def add(gallery: Gallery) -> Gallery:
        check_network(gallery, path, recognizer.digest)
        for image, embedding in embeddings.items():
            if others := [other for other in gallery.people_with(embedding) if other != name]:
                raise UserError(
                    f"{image} is already enrolled as {others[0]}: leave it out, or remove {others[0]} first; "
                    "nothing was changed"
                )
        return gallery.enroll(name, np.stack([*embeddings.values()]))

    return update_gallery(path, add, new)


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
            *(f"{name}: {counted(count, 'embedding')}" for name, count in gallery.people.items()),
            f"{counted(len(gallery.people), 'person', 'people')}; threshold: {threshold}; "
            f"network {gallery.network}, "
            f"{gallery.checkpoint}",
        ]
    )


def remove(arguments: RemoveArguments) -> CommandResult:
    """Remove a person from a gallery. Raises `UserError` if the name or the file does not exist."""
    _, gallery = update_gallery(arguments.gallery, lambda gallery: gallery.remove(arguments.name))
    return CommandResult(
        [
            f"removed {arguments.name}; {counted(len(gallery.people), 'person', 'people')} left in "
            f"{arguments.gallery}"
        ]
    )


def find_recognizer(checkpoint: str | Path, runs: Path, device: Device) -> Recognizer:
    """Load the network of a checkpoint file, or of a run given by its folder, name or number.

    Raises:
        UserError: there is no such run or file, or it contains no classifier.
    """
    path = find_run_or_checkpoint(checkpoint, runs, "train_classifier.py FOLDER")
    from faces.recognition.recognizer import load_recognizer  # imports torch, which takes seconds

    return load_recognizer(path, device=device)


def open_gallery(path: Path, checkpoint: str | None, arguments: CropArguments) -> tuple[Gallery, Recognizer]:
    """Load a gallery and its network. Raises `UserError` if they do not belong together."""
    gallery = load_gallery(path)
    if checkpoint is None and not is_file(gallery.checkpoint):
        raise UserError(
            f"the network of {path} is no longer at {gallery.checkpoint}: give its path with --checkpoint"
        )
    recognizer = find_recognizer(checkpoint or gallery.checkpoint, arguments.runs, arguments.device)
    check_network(gallery, path, recognizer.digest)
    return gallery, recognizer


def make_cropper(recognizer: Recognizer, arguments: CropArguments) -> FaceCropper:
    """The cropper that the arguments request. Raises `UserError` if the detector cannot be loaded."""
    if arguments.whole_image:
        return whole_image_cropper(recognizer.side, recognizer.settings.centre)
    return detected_face_cropper(recognizer.side, arguments.detector, arguments.enlarge)
