"""Find directions in a generator's latent space along which one thing changes: a smile, glasses, the light.

Faces are generated and scored, and the directions found by regression. Each is measured with a different
scorer from the one that found it, beside random directions. sample.py --shift, interpolate.py --along and
--arithmetic, and edit.py take their names. They are written to directions.safetensors in the run's folder,
with a table (.json) and a sheet of faces (.png).

Without any network, there are directions of brightness, warmth, contrast and background, and unnamed ones
along which faces change most. --by and --landmarks add the attributes of trained networks. --plus and --minus
add one attribute, from faces that you choose by their numbers in the grid of sample.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.files import check_writable
from engine.runs import find_run_or_checkpoint, report_write_errors
from engine.settings import Device, Groups, at_least, flag
from gan import pretrained
from gan.latent.directions import Directions, check_new_name, find, path_of
from gan.options import MAX_FACES, GeneratorArguments

if TYPE_CHECKING:
    from faces.recognition.recognizer import Recognizer
    from gan.generator import LoadedGenerator
    from lab.scorers import Scorer

Runs = Annotated[tuple[str, ...], arg(metavar="[NAME=]RUN ...")]
Tiles = Annotated[tuple[int, ...], arg(metavar="N ...")]
MIN_COUNT = 200
"""Fakes, for a regression on a hundred values."""


@dataclass(frozen=True)
class DirectionArguments(GeneratorArguments):
    """What to look for, and how to measure it."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "run by landmarks plus minus name remove",
        "finding": "count keep unnamed seed latents",
        "measuring": "check_by check_landmarks recognizer faces random",
        "generator": "output checkpoint raw classifiers landmark_runs device",
    }

    by: Runs = ()
    """Runs of train_classifier.py (folder, or name or number in --classifiers) or checkpoint files. A
    classifier with a class named none, or with two classes, gives one direction, named after the column of
    its labels, its other class, or NAME; others give one for each class."""
    landmarks: Annotated[str | None, arg(metavar="RUN")] = None
    """Run of train_landmarks.py, for directions of yaw, tilt, smile, mouth_wide, mouth_open and eyes_open."""
    plus: Tiles = ()
    """Numbers of faces that have an attribute (put RUN before this flag); more give a better direction."""
    minus: Tiles = ()
    """Numbers of faces that do not have it."""
    name: str | None = None
    """Name of the direction from --minus to --plus."""
    remove: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ()
    """Remove these directions, and stop."""
    count: int = 20_000
    """Number of faces that are generated and scored."""
    keep: Annotated[tuple[str, ...] | None, arg(metavar="NAME ...")] = None
    """Names of attributes that each direction leaves unchanged, to first order; `identity` for the features
    of --recognizer; `none` for none. By default all other attributes, except that directions of classifiers
    may change brightness, warmth and contrast."""
    unnamed: int = 8
    """Number of unnamed directions of each kind; 0 for none."""
    seed: int | None = None
    """Seed of the faces of --plus and --minus; by default the run's own, as for sample.py."""
    latents: Path | None = None
    """Take the faces of --plus and --minus from this .npy file."""
    check_by: Runs = ()
    """Classifiers that measure the directions, of the same classes as those of --by but trained separately.
    Without them, a regression on other features learns the scores of --by from a part of the faces."""
    check_landmarks: Annotated[str | None, arg(metavar="RUN")] = None
    """Run of train_landmarks.py that measures the directions of --landmarks, trained separately. Without it,
    a regression learns its scores too."""
    recognizer: Annotated[str | None, arg(metavar="RUN")] = None
    """Run of train_classifier.py whose embeddings tell whether a face stays the same person."""
    faces: int = 100
    """Number of faces on which each direction is measured."""
    random: int = 100
    """Number of random directions to compare with."""
    classifiers: Path = Path("outputs/classifiers")
    """Folder of the runs of train_classifier.py."""
    landmark_runs: Path = Path("outputs/landmarks")
    """Folder of the runs of train_landmarks.py."""
    device: Device = "auto"
    """Device to compute on; auto selects CUDA, else Apple's MPS, else the CPU."""

    def __post_init__(self) -> None:
        at_least(self, MIN_COUNT, "count")
        at_least(self, 1, "random")
        at_least(self, 3, "faces")
        at_least(self, 0, "unnamed seed")
        if bool(self.plus) != bool(self.minus) or bool(self.plus) != (self.name is not None):
            raise UserError(
                "--plus, --minus and --name go together: give faces that have an attribute, faces that do "
                "not, and its name"
            )
        if self.name is not None:
            check_new_name(self.name)
        if both := sorted({*self.plus} & {*self.minus}):
            raise UserError(f"--plus and --minus both contain face {both[0]}")
        if self.plus and (self.by or self.landmarks):
            raise UserError(
                "--plus makes one direction, --by and --landmarks others: run directions.py twice"
            )
        for check, checked in (("check_by", "by"), ("check_landmarks", "landmarks")):
            if getattr(self, check) and not getattr(self, checked):
                raise UserError(f"{flag(check)} measures the directions of --{checked}: give that too")
        for name in ("seed", "latents"):
            if getattr(self, name) is not None and not self.plus:
                raise UserError(f"--{name} is for the faces of --plus and --minus: omit it")
        if self.seed is not None and self.latents is not None:
            raise UserError("give either --seed, which draws faces, or --latents, which reads them")
        if self.keep is not None and "identity" in self.keep and self.recognizer is None:
            raise UserError("--keep identity needs --recognizer RUN")
        if self.remove and (self.by or self.landmarks or self.plus):
            raise UserError("--remove finds no directions: give it alone")

    def scorer(self, classifiers: Runs, landmarks: str | None, *, other: bool = False) -> Scorer:
        """The attributes of pixels, landmarks and classifiers, in one scorer.

        Args:
            classifiers: runs, with names if given.
            landmarks: a run, or None.
            other: use the other definitions of the pixels' attributes.

        Raises:
            UserError: a run does not exist, or is of another kind.
        """
        from lab.scorers import (
            classifier_scorer,
            join,
            landmark_scorer,
            other_pixel_scorer,
            pixel_scorer,
        )

        scorers = [other_pixel_scorer() if other else pixel_scorer()]
        if landmarks is not None:
            from faces.landmarks.predictor import load_predictor

            path = find_run_or_checkpoint(landmarks, self.landmark_runs, "train_landmarks.py FOLDER")
            scorers.append(landmark_scorer(load_predictor(path, device=self.device)))
        for word in classifiers:
            name, equals, run = word.partition("=")
            named = equals and name.isidentifier() and not Path(word).exists()
            recognizer = self.load_recognizer(run if named else word)
            scorers.append(classifier_scorer(recognizer, name if named else None))
        return join(scorers)

    def load_recognizer(self, run: str | None = None) -> Recognizer | None:
        """Load a classifier, by default that of --recognizer, if any. Raises `UserError` if there is none."""
        from faces.recognition.commands import find_recognizer

        run = self.recognizer if run is None else run
        return None if run is None else find_recognizer(run, self.classifiers, self.device)


def main() -> None:
    """Parse the command line, find and measure directions, print the table and the path of the file."""
    arguments = parse(DirectionArguments, description=__doc__)
    arguments.check_generator()
    if arguments.file_of_generator() == pretrained.FILE:
        raise UserError(
            "the generator that comes with the project has directions: to find others, export a copy with "
            f"`python export.py {pretrained.NAME} FILE.safetensors`, and give FILE.safetensors"
        )
    # Importing torch takes seconds, so mistakes on the command line are reported first.
    generator = arguments.load_generator(arguments.device)
    path = path_of(generator.checkpoint if generator.is_file else generator.run)
    with report_write_errors(path):
        check_writable(path)
    if arguments.remove:
        directions = Directions.of(generator).without(arguments.remove)
    elif arguments.plus:
        directions = from_tiles(arguments, generator, existing(generator, path))
    else:
        directions = from_scores(arguments, generator, existing(generator, path))
    from lab.direction_report import save_sheet

    keep_unusable(path, generator.digest)
    directions.save(path)
    save_sheet(generator, directions, path.with_suffix(".png"))
    print(path.with_suffix(".png"), path, sep="\n")


def existing(generator: LoadedGenerator, path: Path) -> Directions:
    """The directions there are; none, with a line that says so, if they are of other weights or damaged."""
    try:
        return Directions.of(generator)
    except UserError as error:
        if find(generator.checkpoint if generator.is_file else generator.run) != path:
            raise
        print(f"starting again without the previous directions: {error}")
        return Directions(generator.digest)


def latest(generator: LoadedGenerator, known: Directions) -> Directions:
    """The directions there are now: others may have been added while some were searched for, in minutes."""
    try:
        return Directions.of(generator)
    except UserError:
        return known


def keep_unusable(path: Path, digest: str) -> None:
    """Move a file of directions of other weights, or a damaged one, to a free name before it is replaced."""
    if not path.exists():
        return
    try:
        Directions.load(path, digest)
    except UserError:
        names = (path.with_suffix(f".old{number}{path.suffix}") for number in ("", *range(2, 10_000)))
        kept = next(name for name in names if not name.exists())
        with report_write_errors(kept):
            path.replace(kept)
        print(f"the previous file is now {kept.name}")


def from_scores(arguments: DirectionArguments, generator: LoadedGenerator, known: Directions) -> Directions:
    """Find directions of all attributes, measure them and print their table; and find the unnamed ones."""
    from lab.direction_report import doubts, table
    from lab.direction_search import search
    from lab.finding import MIN_EXPLAINED, leading_directions

    found = search(
        generator,
        arguments.scorer(arguments.by, arguments.landmarks),
        arguments.scorer(arguments.check_by, arguments.check_landmarks, other=True),
        arguments.load_recognizer(),
        kept=None if arguments.keep is None else [name for name in arguments.keep if name != "none"],
        count=arguments.count,
        faces=arguments.faces,
        random=arguments.random,
    )
    print(table(found.directions), *doubts(found.directions), sep="\n")
    for name in found.missing:
        explained = max(found.explained[name], 0.0)  # adjusted for the number of faces, which may go below
        few = f"the latent vector explains only {explained:.1%} of it"
        reason = few if explained < MIN_EXPLAINED else "nothing is left of it beside what --keep names"
        print(f"{name}: no direction, as {reason}")
    unnamed = leading_directions(generator, arguments.unnamed) if arguments.unnamed else {}
    known = latest(generator, known)
    others = {name: one for name, one in known.by_name.items() if name not in found.directions | unnamed}
    return Directions(known.generator, found.directions | others | unnamed)


def from_tiles(arguments: DirectionArguments, generator: LoadedGenerator, known: Directions) -> Directions:
    """Find the direction from the faces of --minus to those of --plus, and print how good it is."""
    from gan.latent.vectors import draw, load_latents
    from lab.direction_report import doubts_of_choice
    from lab.direction_search import from_choice

    numbers = [*arguments.plus, *arguments.minus]
    if arguments.latents is not None:
        z = load_latents(arguments.latents, generator.latent_size)
    else:
        seed = generator.seed if arguments.seed is None else arguments.seed
        z = draw(min(max(*numbers, 0) + 1, MAX_FACES), generator.latent_size, seed)
    limit = MAX_FACES if arguments.latents is None else len(z)
    if outside := [number for number in numbers if not 0 <= number < limit]:
        raise UserError(f"there is no face {outside[0]}; give numbers from 0 to {limit - 1:,}")
    assert arguments.name is not None, "it was checked that it is given"
    direction = from_choice(generator, z[list(arguments.plus)], z[list(arguments.minus)], known)
    scores = direction.scores
    held_out = scores["held_out"]
    right = (
        ""
        if held_out is None
        else f"; {held_out:.0%} of them are on the right side of a direction found from the others"
    )
    similar = (
        f"; most similar to {scores['similar_to']} (cosine {scores['cosine']:+.2f})"
        if "cosine" in scores
        else ""
    )
    print(f"{arguments.name}, from {len(numbers)} faces{right}{similar}")
    for doubt in doubts_of_choice(direction):
        print(doubt, file=sys.stderr)
    return latest(generator, known).with_directions({arguments.name: direction})


if __name__ == "__main__":
    run_script(main)
