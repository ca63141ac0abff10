"""The photos that a command line names, and names for output copies that never overwrite a photo."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.files import shorten_stem
from images.exclude import Excluded, ExcludePatterns
from images.scan import list_images


@dataclass(frozen=True)
class Photos:
    """Photos named on a command line.

    Attributes:
        inputs: files and folders as given.
        files: the photos in order, each once; none has been decoded.
        skipped: (photo or folder, reason) of those that cannot be opened.
        excluded: what the patterns excluded.
    """

    inputs: tuple[Path, ...]
    files: list[Path]
    skipped: list[tuple[str, str]]
    excluded: Excluded

    def check_output(self, output: Path) -> None:
        """Reject an output folder in which copies could overwrite photos or be mistaken for photos.

        Raises:
            UserError: `output` is an input folder, is inside one, or contains one of the photos.
        """
        target = output.resolve()
        for folder in filter(Path.is_dir, self.inputs):
            if target.is_relative_to(folder.resolve()):
                relation = "contains the photos" if target == folder.resolve() else f"is inside {folder}"
                raise UserError(f"{output} {relation}; choose another folder with --output")
        for photo in self.files:
            # Neither a link nor its target may be overwritten.
            if target in (photo.parent.resolve(), photo.resolve().parent):
                raise UserError(f"{output} contains the photo {photo}; choose another folder with --output")

    def copy_names(self) -> dict[Path, str]:
        """A PNG file name for the copy of each photo, unique regardless of case."""
        names: dict[Path, str] = {}
        taken: set[str] = set()
        for photo in self.files:
            stem = shorten_stem(photo.stem)
            name, number = f"{stem}.png", 1
            while name.casefold() in taken:
                number += 1
                name = f"{stem}-{number}.png"
            taken.add(name.casefold())
            names[photo] = name
        return names


def list_photos(inputs: Sequence[Path], exclude: Collection[str] = ()) -> Photos:
    """List the given photos and those in the given folders.

    Args:
        inputs: photos, and folders of photos.
        exclude: patterns of files and folders to leave out; see `images.exclude`. A photo that is given
            itself is left out if a pattern matches its name.

    Raises:
        UserError: nothing is given, an input does not exist or cannot be read, or no photo can be opened.
    """
    if not inputs:
        hint = ", before --exclude, which takes all words after it" if exclude else ""
        raise UserError(f"no photo is given; name photos or folders of photos{hint}")
    patterns = ExcludePatterns(exclude)
    files: dict[Path, None] = {}
    skipped: dict[str, str] = {}
    for path in inputs:
        try:
            if path.is_dir():
                listing = list_images(path, exclude=patterns)
                files |= dict.fromkeys(path / name for name in listing.files)
                skipped |= {str(path / name): reason for name, reason in listing.skipped}
            elif path.is_file():
                if not patterns.exclude(path.name):
                    files[path] = None
            else:
                raise UserError(f"there is no photo or folder {path}")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not files:
        problems = [": ".join(item) for item in skipped.items()][:1] + patterns.excluded().lines()
        raise UserError("; ".join([f"no photo in {', '.join(map(str, inputs))}", *problems]))
    return Photos(tuple(inputs), list(files), list(skipped.items()), patterns.excluded())


def check_output(folder: Path, script: str) -> None:
    """Refuse an output folder that contains files but was not marked by the same script.

    Args:
        folder: output folder. It may be missing.
        script: name of the script, such as `recognize.py`.

    Raises:
        UserError: the folder contains the user's own files.
    """
    if not folder.is_dir() or _marker(folder, script).exists():
        return
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UserError(f"{folder} contains files that {script} did not write; name another --output")


def mark_output(folder: Path, script: str) -> None:
    """Create the folder, and the hidden marker by which `check_output` accepts it next time."""
    folder.mkdir(parents=True, exist_ok=True)
    _marker(folder, script).touch()


def _marker(folder: Path, script: str) -> Path:
    return folder / f".{Path(script).stem}.made"
