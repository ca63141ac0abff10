"""The photos that a user names, and where copies of them go, so that no photo is written over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.files import shorten_stem
from images.scan import list_images


@dataclass(frozen=True)
class Photos:
    """What a user named.

    Attributes:
        given: files and folders, as they were named.
        files: the photos, in order, each once; none has been decoded.
        left_out: (photo or folder, reason) of what cannot be opened.
    """

    given: tuple[Path, ...]
    files: list[Path]
    left_out: list[tuple[str, str]]

    def check_apart(self, output: Path) -> None:
        """Refuse a folder for copies in which they could take a photo's place, or be taken for photos.

        Raises:
            UserError: `output` is a folder that was given, lies in one, or holds one of the photos.
        """
        there = output.resolve()
        for folder in filter(Path.is_dir, self.given):
            if there.is_relative_to(folder.resolve()):
                relation = (
                    "holds the photos" if there == folder.resolve() else f"lies in {folder}, with photos"
                )
                raise UserError(f"{output} {relation}; name another folder by --output")
        for photo in self.files:
            # A link's place and its target's: neither may be replaced.
            if there in (photo.parent.resolve(), photo.resolve().parent):
                raise UserError(f"{output} holds the photo {photo}; name another folder by --output")

    def copies(self) -> dict[Path, str]:
        """Of each photo a name for its copy, a PNG; no two agree, whatever their case."""
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


def list_photos(given: Sequence[Path]) -> Photos:
    """The photos named, and those of the folders named.

    Raises:
        UserError: nothing is given, a name is none of a file or folder, one cannot be read, or there is no
            photo that can be opened.
    """
    if not given:
        raise UserError("no photo is given; name photos, or folders of photos")
    files: dict[Path, None] = {}
    left_out: dict[str, str] = {}
    for path in given:
        try:
            if path.is_dir():
                listing = list_images(path)
                files |= dict.fromkeys(path / name for name in listing.files)
                left_out |= {str(path / name): reason for name, reason in listing.skipped}
            elif path.is_file():
                files[path] = None
            else:
                raise UserError(f"there is no photo or folder {path}")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not files:
        problem = f"; {': '.join(next(iter(left_out.items())))}" if left_out else ""
        raise UserError(f"no photo in {', '.join(map(str, given))}{problem}")
    return Photos(tuple(given), list(files), list(left_out.items()))


def check_output(folder: Path, script: str) -> None:
    """Refuse an output folder that contains files but was not marked by the same script.

    Args:
        folder: Output folder. It may be missing.
        script: Name of the script, such as `recognize.py`.

    Raises:
        UserError: The folder contains the user's own files.
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
