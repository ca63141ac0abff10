"""Which files of a folder a script made itself, so that it writes over nothing of its user's.

A list beside them, `.recognize.made` and the like, holds the names and digests of what was made: a file that
is not in it, or was changed by hand since, stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import UserError
from engine.files import atomic_write, sha256_of


class Made:
    """The files that a script is about to make in a folder.

    Args:
        folder: it may be missing.
        script: that makes them, such as `recognize.py`.
        names: of the files.

    Raises:
        UserError: one of them is there and is not as the script made it.
    """

    def __init__(self, folder: Path, script: str, names: Collection[str]) -> None:
        self._folder, self._list = folder, folder / f".{Path(script).stem}.made"
        known = _read(self._list)
        there = {name: sha256_of(folder / name) for name in names if (folder / name).exists()}
        for name, digest in there.items():
            if (name, digest) not in known:
                raise UserError(
                    f"{folder / name} was not made by {script}, or was changed since, and would be written "
                    "over; name another folder by --output"
                )
        # What was noted and never came about, as after a kill, is forgotten.
        self._noted = {pair for pair in known if pair[0] not in names} | {*there.items()}
        self._begun = False

    @contextmanager
    def atomic_write(self, name: str) -> Iterator[Path]:
        """As `engine.files.atomic_write`, of one of the files.

        Raises:
            OSError: the folder cannot be made or written to, or the disk is full.
        """
        with atomic_write(self._folder / name) as path:
            yield path
            # Noted before the file is in its place: after a kill between the two the list knows both.
            self._note(name, sha256_of(path))

    def _note(self, name: str, digest: str) -> None:
        if not self._begun:
            with atomic_write(self._list) as path:
                path.write_text("".join(map(_line, sorted(self._noted))), encoding="ascii")
            self._begun = True
        with self._list.open("a", encoding="ascii") as file:
            file.write(_line((name, digest)))


def _line(pair: tuple[str, str]) -> str:
    return json.dumps(pair) + "\n"


def _read(path: Path) -> set[tuple[str, str]]:
    """Names and digests, without a line that was cut short."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    pairs: set[tuple[str, str]] = set()
    for line in lines:
        try:
            name, digest = json.loads(line)
        except (ValueError, TypeError):
            continue
        pairs.add((str(name), str(digest)))
    return pairs
