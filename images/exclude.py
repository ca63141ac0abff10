"""Glob patterns that exclude files and folders: a subset of those of .gitignore."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from engine.errors import UserError
from engine.output import counted


@dataclass(frozen=True)
class Excluded:
    """What patterns have excluded.

    Attributes:
        files: number of images.
        folders: number of folders, which are not entered.
        unused: patterns that match nothing.
    """

    files: int = 0
    folders: int = 0
    unused: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line with the numbers, unless both are 0, and one for each unused pattern."""
        lines = [f"--exclude {pattern!r} matches no image or folder" for pattern in self.unused]
        counts = [(self.files, "image"), (self.folders, "folder")]
        if excluded := [counted(count, kind) for count, kind in counts if count]:
            lines.insert(0, f"{' and '.join(excluded)} excluded by --exclude")
        return lines


class ExcludePatterns:
    """Patterns, and what they have excluded so far.

    A pattern matches the name of a file or folder at any depth; if it contains a slash before its end, the
    path relative to the scanned folder. `*`, `?` and `[...]` match within a name, `**` any number of folders.
    A slash at the end restricts a pattern to folders. A name also matches itself, whatever characters it has.
    Upper and lower case differ. There is no negation by `!` and no escape by a backslash.

    Args:
        patterns: any number of them.

    Raises:
        UserError: a pattern is empty.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._patterns = {pattern: _parse(pattern) for pattern in patterns}
        self._used: set[str] = set()
        self._files = self._folders = 0
        self._paths: dict[str, bool] = {}

    def exclude(self, name: str, *, is_folder: bool = False) -> bool:
        """Whether to exclude a file or folder, whose parents are not excluded; counts it if so.

        Args:
            name: relative to the scanned folder, with `/` as separator.
            is_folder: whether it is a folder.
        """
        matches = self._match(name, is_folder)
        self._files += matches and not is_folder
        self._folders += matches and is_folder
        return matches

    def exclude_path(self, name: str) -> bool:
        """Whether to exclude a file for its own name or that of a folder in its path; counts it once."""
        if name not in self._paths:
            parents = [name[:end] for end, letter in enumerate(name) if letter == "/"]
            matches = [self._match(name, False), *(self._match(parent, True) for parent in parents)]
            self._paths[name] = any(matches)
            self._files += any(matches)
        return self._paths[name]

    def excluded(self) -> Excluded:
        """What has been excluded so far."""
        unused = tuple(pattern for pattern in self._patterns if pattern not in self._used)
        return Excluded(self._files, self._folders, unused)

    def _match(self, name: str, is_folder: bool) -> bool:
        parts = name.split("/")
        # All patterns, so that none counts as unused because of another.
        matching = [
            pattern
            for pattern, (globs, folders_only) in self._patterns.items()
            if (is_folder or not folders_only) and _matches(parts, globs)
        ]
        self._used.update(matching)
        return bool(matching)


def _parse(pattern: str) -> tuple[list[str], bool]:
    """The globs of a path's parts, and whether the pattern is for folders only."""
    path = pattern.replace("\\", "/") if os.name == "nt" else pattern
    globs = [part for part in path.split("/") if part not in ("", ".")]
    if not globs:
        raise UserError(f"--exclude: the pattern {pattern!r} is empty; give one such as 'thumbs*'")
    anywhere = "/" not in path.rstrip("/")
    return ["**", *globs] if anywhere else globs, path.endswith("/")


def _matches(parts: Sequence[str], globs: Sequence[str]) -> bool:
    if not globs:
        return not parts
    if globs[0] == "**":
        return any(_matches(parts[first:], globs[1:]) for first in range(len(parts) + 1))
    matches = bool(parts) and (parts[0] == globs[0] or fnmatchcase(parts[0], globs[0]))
    return matches and _matches(parts[1:], globs[1:])
