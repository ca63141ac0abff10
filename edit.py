"""Edit the faces of photos: find each face's place in latent space, and move it along named directions.

Each photo gives a picture in edits/ in the run's folder, with a row for each of its faces: in the photo, as
the generator makes it, and edited. The latent vectors are saved beside it (.npy), for sample.py --latents and
interpolate.py --latents. The directions are those of directions.py.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, Suppress, arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.progress import ProgressBar
from engine.runs import find_run
from engine.settings import Device, Groups, Patterns
from gan.config import is_generator_file
from gan.latent.directions import Directions, parse_strengths
from gan.options import GeneratorArguments, PictureArguments

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator
    from lab.editing import Correct, Photo
    from lab.fitting import PhotoFitter

TIMED_STEPS = 5
"""Steps of the encoder's training after which its time is stated."""


@dataclass(frozen=True)
class EditArguments(GeneratorArguments, PictureArguments):
    """Which generator, which photos, and what to change."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "run paths shift fit encoder whole_image scale file exclude",
        "likeness": "keep recognizer classifiers tune",
        "generator": "output checkpoint raw device",
    }

    run: Suppress[str | None] = None
    paths: Annotated[tuple[Path, ...], Positional, arg(metavar="[RUN] PHOTO...")] = ()
    """The run, as its folder, name or number in --output, or a .safetensors file, by default the newest run;
    and photos, or folders of photos."""
    shift: Annotated[tuple[str, ...], arg(metavar="[NAME=STRENGTH ...]")] = ()
    """Move the faces along directions of directions.py, such as smile=2 glasses=-1, by this many standard
    deviations of the prior (RUN and PHOTO go before this flag). Without it the faces are only fitted."""
    fit: Literal["best", "fast"] = "best"
    """fast only improves the encoder's estimate a little."""
    encoder: bool = True
    """Start from the estimate of an encoder, which is trained once for each generator and kept beside it;
    without it, each face takes a little longer."""
    whole_image: bool = False
    """Take the centre square of each photo, which is a crop already, instead of the faces in it."""
    keep: Literal["identity"] | None = None
    """Correct the edited faces so that --recognizer finds the same person in them."""
    recognizer: Annotated[str | None, arg(metavar="RUN")] = None
    """Run of train_classifier.py that identifies people, best by --method arcface."""
    classifiers: Path = Path("outputs/classifiers")
    """Folder of the runs of train_classifier.py."""
    tune: Annotated[Path | None, arg(metavar="FILE")] = None
    """Train a copy of the generator until it makes these faces as they are (pivotal tuning), and write it to
    this .safetensors file, which every script takes in place of a run."""
    device: Device = "auto"
    """Device to compute on, always in float32; auto selects CUDA, else Apple's MPS, else the CPU."""
    exclude: Patterns = ()
    """Patterns of photos and folders to leave out; they come last."""

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
        if is_generator_file(first) or self._is_run(first):
            return replace(self, run=str(first), paths=()), others
        return self, list(self.paths)

    def _is_run(self, path: Path) -> bool:
        if path.exists() and not (path / "config.json").exists():
            return False
        try:
            find_run(str(path), self.output)
        except UserError:
            return False
        return True


def main() -> int:
    """Parse the command line, fit and edit the photos, and print where the pictures are."""
    arguments, inputs = parse(EditArguments, description=__doc__).split()
    arguments.check_generator()
    from faces.photos import list_photos

    photos = list_photos(inputs, arguments.exclude)
    if arguments.file is not None and len(photos.files) > 1:
        raise UserError(f"--file is for one photo, not {len(photos.files):,}: omit it")
    generator = arguments.load_generator(arguments.device)
    directions = Directions.of(generator)
    strengths = parse_strengths(arguments.shift)
    directions.check(tuple(strengths))
    correct = _correction(arguments, generator, directions, tuple(strengths))
    from lab.editing import edit_photos, fit_photos
    from lab.fitting import PhotoFitter

    fitter = PhotoFitter(
        generator,
        fit=arguments.fit,
        whole_image=arguments.whole_image,
        encoder=arguments.encoder,
        progress=EncoderProgress(generator),
    )
    for note in [*fitter.finder.notes, *photos.excluded.lines()]:
        print(f"note: {note}", file=sys.stderr)
    problems = [f"{name}: {reason}" for name, reason in photos.skipped]
    fitted = fit_photos(fitter, photos.files, problems)
    if arguments.tune is not None:
        kept = list(fitted)
        if kept:
            generator, directions = _tuned(arguments.tune, fitter, generator, directions, kept)
        fitted = iter(kept)
    done = 0
    for photo in fitted:
        report = edit_photos(
            generator,
            [photo],
            directions,
            strengths,
            correct=correct,
            scale=arguments.scale,
            file=arguments.picture_file([".png"]),
        )
        print("\n".join(report.lines), flush=True)
        done += 1
    for problem in problems:
        print(f"{'left out' if done else 'error'}: {problem}", file=sys.stderr)
    return 0 if done else 2


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
                f"training an encoder for this generator, once, in about {max(1, round(minutes))} min; it is "
                f"kept in {encoder_path(self._generator)}"
            )
        self._bar.update(step - self._bar.n)
        if share == 1.0:
            self._bar.close()


def _correction(
    arguments: EditArguments, generator: LoadedGenerator, directions: Directions, names: tuple[str, ...]
) -> Correct | None:
    """What --keep does to the edited vectors."""
    if arguments.recognizer is None:
        return None
    from faces.recognition.commands import find_recognizer
    from lab.identity import keep_identity

    recognizer = find_recognizer(arguments.recognizer, arguments.classifiers, arguments.device)
    vectors = [directions[name].vector for name in names]
    return lambda fitted, edited: keep_identity(generator, recognizer, fitted, edited, vectors)


def _tuned(
    path: Path,
    fitter: PhotoFitter,
    generator: LoadedGenerator,
    directions: Directions,
    photos: list[Photo],
) -> tuple[LoadedGenerator, Directions]:
    """A generator tuned to the photos and written to a file, and its directions."""
    from gan.export.generator_file import save_generator

    faces = [face for photo in photos for face in photo.faces]
    with ProgressBar(total=100, desc="tuning", unit="%") as bar:
        tuned = fitter.tune(faces, progress=lambda share: bar.update(round(share * 100) - bar.n))
    # The copy is so near to the generator that its directions still mean the same.
    moved = replace(directions, generator=tuned.digest)
    save_generator(tuned, path, directions=moved)
    print(f"tuned to {len(faces):,} faces: {path}")
    return tuned, moved


if __name__ == "__main__":
    run_script(main)
