"""Edit the faces of photos: find each face's place in latent space, and move it along named directions.

For each photo, a picture is written to edits/ in the run's folder, with a row for each of its faces: in the
photo, as the generator makes it, and edited. The latent vectors are saved beside it (.npy), for --latents of
sample.py and interpolate.py. The directions are those of directions.py.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, Suppress, arg

from engine.cli import closest, parse
from engine.errors import UserError, run_script
from engine.files import check_writable, is_file, is_folder
from engine.output import counted, one_line
from engine.progress import ProgressBar
from engine.runs import find_run, is_run, report_write_errors
from engine.settings import Device, Groups, Patterns
from gan.config import is_generator_file
from gan.latent.directions import Directions, parse_strengths
from gan.options import GeneratorArguments, PictureArguments, generator_file

if TYPE_CHECKING:
    from faces.recognition.recognizer import Recognizer
    from gan.generator import LoadedGenerator
    from lab.editing import Correct, Photo
    from lab.fitting import PhotoFitter

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
TIMED_STEPS = 5
"""The encoder trains this many steps before the time that it takes is printed."""


@dataclass(frozen=True)
class EditArguments(GeneratorArguments, PictureArguments):
    """Which generator, which photos, and what to change."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "shift fit encoder whole_image scale file exclude",
        "likeness": "keep recognizer classifiers tune",
        "generator": "output checkpoint raw device",
    }

    run: Suppress[str | None] = None
    paths: Annotated[tuple[Path, ...], Positional, arg(metavar="[RUN] PHOTO...")] = ()
    """RUN is the run's folder, or its name or number in --output, or a .safetensors file of export.py, or
    `drawn` for the generator that comes with the project; by default the newest run, or `drawn` if there is
    none. PHOTO is a photo or a folder of photos."""
    shift: Annotated[tuple[str, ...], arg(metavar="[NAME=STRENGTH ...]")] = ()
    """Move the faces along directions of directions.py, such as smile=2 glasses=-1; a strength is in standard
    deviations of the prior (put RUN and PHOTO before this flag). --smile 2 --glasses -1 is the same. Without
    any, the faces are only fitted."""
    fit: Literal["best", "fast"] = "best"
    """best comes closest to the photo; fast only refines the encoder's estimate, in a fifth of the time."""
    encoder: bool = True
    """Start from the estimate of an encoder, which is trained once for each generator and kept beside it;
    without it, each face takes a little longer."""
    whole_image: bool = False
    """Take the centre square of each photo, a crop of one face, instead of detecting faces."""
    keep: Literal["identity"] | None = None
    """Correct the edited faces so that --recognizer finds the same person in them."""
    recognizer: Annotated[str | None, arg(metavar="RUN")] = None
    """Run of train_classifier.py that identifies people, preferably of --method arcface."""
    classifiers: Path = Path("outputs/classifiers")
    """Folder of the runs of train_classifier.py."""
    tune: Annotated[Path | None, arg(metavar="FILE")] = None
    """Train a copy of the generator until it reproduces these faces (pivotal tuning), and write it to
    this .safetensors file, which every script takes in place of a run."""
    device: Device = "auto"
    """Device to compute on, always in float32; auto selects CUDA, else Apple's MPS, else the CPU."""
    exclude: Patterns = ()
    """Patterns of photos and folders to leave out, after the photos."""

    def __post_init__(self) -> None:
        parse_strengths(self.shift)
        self.picture_file([".png"])
        if self.keep and not self.shift:
            raise UserError("--keep is for edits: give --shift NAME=STRENGTH")
        if (self.keep is None) != (self.recognizer is None):
            raise UserError("--keep identity and --recognizer RUN go together")
        if self.fit == "fast" and not self.encoder:
            raise UserError("--fit fast starts from the encoder's estimate: omit --no-encoder")
        if self.tune is not None and not is_generator_file(self.tune):
            raise UserError(f"--tune {self.tune} must end in .safetensors")

    def split(self) -> tuple[EditArguments, list[Path]]:
        """These arguments with the run that the first of the paths names, if it does, and the photos."""
        if not self.paths:
            raise UserError("give [RUN] PHOTO...: photos, or folders of photos")
        first, *others = self.paths
        if generator_file(str(first), self.output) is not None or self._is_run(first):
            return replace(self, run=str(first), paths=()), others
        return self, list(self.paths)

    def check_written(self, inputs: Sequence[Path]) -> None:
        """Check --file and --tune before the faces are fitted, which takes a while.

        Raises:
            UserError: one cannot be written, or would replace the generator's file or one of `inputs`.
        """
        generator = self.file_of_generator()
        read = {path.resolve() for path in (*inputs, *([] if generator is None else [generator]))}
        written = {"--file": self.picture_file([".png"]), "--tune": self.tune}
        for option, path in written.items():
            if path is None:
                continue
            if path.resolve() in read:
                raise UserError(f"{option} {path} would replace a file that is read: give another name")
            with report_write_errors(path):
                check_writable(path)

    def variant(self) -> list[str]:
        """How the faces are fitted and corrected, in words, where that is not the default."""
        chosen = {
            "fast": self.fit == "fast",
            "no_encoder": not self.encoder,
            "whole_image": self.whole_image,
            "keep_identity": self.keep is not None,
        }
        return [word for word, is_chosen in chosen.items() if is_chosen]

    def _is_run(self, path: Path) -> bool:
        if (is_file(path) or is_folder(path)) and not is_run(path):
            return False
        try:
            find_run(str(path), self.output)
        except UserError:
            return False
        return True


OPTIONS = (*(field.name for field in fields(EditArguments)), "help")
"""The options of this script, as attributes are named; no direction may have such a name."""


def main() -> int:
    """Parse the command line, fit and edit the photos, and print where the pictures are."""
    arguments, inputs = parse(EditArguments, with_shifts(sys.argv[1:]), description=__doc__).split()
    arguments.check_generator()
    from faces.photos import list_photos

    photos = list_photos(inputs, arguments.exclude)
    if arguments.file is not None and len(photos.files) > 1:
        raise UserError(f"--file is for one photo, not {len(photos.files):,}: omit it")
    arguments.check_written([*inputs, *photos.files])
    generator = arguments.load_generator(arguments.device)
    strengths = parse_strengths(arguments.shift)
    directions = _directions(generator, strengths, tuning=arguments.tune is not None)
    check_directions(directions, strengths, sys.argv[1:])
    recognizer = _recognizer(arguments)
    from lab.editing import edit_photo, fit_photos
    from lab.fitting import PhotoFitter

    fitter = PhotoFitter(
        generator,
        fit=arguments.fit,
        whole_image=arguments.whole_image,
        encoder=arguments.encoder,
        progress=EncoderProgress(generator),
    )
    for note in [*fitter.finder.notes, *photos.excluded.lines()]:
        print(one_line(f"note: {note}"), file=sys.stderr)
    problems = [f"{name}: {reason}" for name, reason in photos.skipped]
    fitted = fit_photos(fitter, photos.files, problems)
    if arguments.tune is not None:
        kept = list(fitted)
        if kept:
            generator, directions = _tuned(arguments, fitter, generator, directions, kept)
        fitted = iter(kept)
    # After tuning, as a correction is for the generator that makes the picture.
    correct = None if recognizer is None else _correction(generator, recognizer, directions, strengths)
    done = 0
    for photo in fitted:
        line = edit_photo(
            generator,
            photo,
            directions,
            strengths,
            correct=correct,
            variant=arguments.variant(),
            scale=arguments.scale,
            file=arguments.picture_file([".png"]),
        )
        print(one_line(line), flush=True)
        done += 1
    for problem in problems:
        print(one_line(f"{'left out' if done else 'error'}: {problem}"), file=sys.stderr)
    return 0 if done else 2


def with_shifts(words: Sequence[str]) -> list[str]:
    """Write `--smile 2` as `--shift=smile=2`, where --smile is no option.

    With the equals sign, as the words after a --shift without one would be its values too: photos may follow.

    Raises:
        UserError: a flag is neither an option nor a direction with a number.
    """
    written: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*written, word, *rest]
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and name.isidentifier() and name.removeprefix("no_") not in OPTIONS:
            number = value if equals else next(iter(rest), "")
            if not NUMBER.fullmatch(number):
                raise UserError(
                    f"{flag} is not an option{_or_option(flag)}; as a direction, it needs a number, such as "
                    f"{flag} 1.5; --help lists all flags"
                )
            del rest[: not equals]
            written.append(f"--shift={name}={number}")
            continue
        written.append(word)
    return written


def check_directions(directions: Directions, names: Collection[str], words: Sequence[str]) -> None:
    """Check that directions exist.

    Args:
        directions: those of the generator.
        names: of the directions of the edit.
        words: the command line, in which --smile 2 may be a direction, or an option that is misspelt.

    Raises:
        UserError: a direction does not exist; the message has those that do, and an option that may be meant.
    """
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        name = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and name in names and name not in directions.names:
            raise UserError(
                f"{flag} is neither an option{_or_option(flag)} nor a direction: {directions.listing()}"
            )
    directions.check(tuple(names))


def _or_option(flag: str) -> str:
    """A hint at the option that a flag may be meant to be, in parentheses."""
    options = [f"--{name.replace('_', '-')}" for name in OPTIONS if name not in ("run", "paths")]
    meant = closest(flag, options)
    return f" (did you mean {meant}?)" if meant else ""


class EncoderProgress:
    """Says that an encoder is trained, for how long and where it is kept, and shows a bar.

    Args:
        generator: whose encoder it is.
    """

    def __init__(self, generator: LoadedGenerator) -> None:
        self._generator = generator
        self._bar: ProgressBar | None = None

    def __call__(self, share: float) -> None:
        """Show the share that is done, from 0 to 1."""
        from gan.inversion.encoder import STEPS
        from gan.inversion.encoder_file import encoder_path

        step = round(share * STEPS)
        if self._bar is None:
            self._bar, self._start = ProgressBar(total=STEPS, desc="encoder", unit=" steps"), time.monotonic()
        elif step == TIMED_STEPS:
            minutes = (time.monotonic() - self._start) / (TIMED_STEPS - 1) * STEPS / 60
            self._bar.write(
                f"training an encoder for this generator takes about {max(1, round(minutes))} min, once; "
                f"it is kept in {encoder_path(self._generator)}"
            )
        self._bar.update(step - self._bar.n)
        if share == 1.0:
            self._bar.close()


def _directions(generator: LoadedGenerator, names: Collection[str], *, tuning: bool) -> Directions:
    """The generator's directions, if they are needed: for an edit, or to store them in a tuned copy.

    Raises:
        UserError: the directions cannot be loaded.
    """
    directions = Directions(generator.digest)
    if names or tuning:
        try:
            directions = Directions.of(generator)
        except UserError as error:
            if names:
                raise
            print(f"note: the copy gets no directions: {error}", file=sys.stderr)
    return directions


def _recognizer(arguments: EditArguments) -> Recognizer | None:
    if arguments.recognizer is None:
        return None
    from faces.recognition.commands import find_recognizer

    return find_recognizer(arguments.recognizer, arguments.classifiers, arguments.device)


def _correction(
    generator: LoadedGenerator, recognizer: Recognizer, directions: Directions, names: Collection[str]
) -> Correct:
    """What --keep does to the edited vectors."""
    from lab.identity import keep_identity

    vectors = [directions[name].vector for name in names]
    return lambda fitted, edited: keep_identity(generator, recognizer, fitted, edited, vectors)


def _tuned(
    arguments: EditArguments,
    fitter: PhotoFitter,
    generator: LoadedGenerator,
    directions: Directions,
    photos: list[Photo],
) -> tuple[LoadedGenerator, Directions]:
    """A generator tuned to the photos and written to the file of --tune, and its directions.

    Its pictures go where those of that file go, so that they replace none of the original's.
    """
    from gan.export.generator_file import folder_of_results, save_generator

    path = arguments.tune
    assert path is not None, "it was checked that it is given"
    faces = [face for photo in photos for face in photo.faces]
    with ProgressBar(total=100, desc="tuning", unit="%") as bar:
        tuned = fitter.tune(faces, progress=lambda share: bar.update(round(share * 100) - bar.n))
    tuned = replace(tuned, run=folder_of_results(path, arguments.output), checkpoint=path)
    # The copy is so near to the generator that its directions still mean the same.
    moved = replace(directions, generator=tuned.digest)
    save_generator(tuned, path, directions=moved)
    print(f"tuned to {counted(len(faces), 'face')}: {path}")
    return tuned, moved


if __name__ == "__main__":
    run_script(main)
