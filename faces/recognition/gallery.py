"""A gallery: vectors of people's faces by which they are found again, in one file that holds no code.

    gallery = empty_gallery(recognizer.digest, checkpoint).enrolled("Ada", vectors)    # float32 [N, D]
    gallery.save("people.npz")
    load_gallery("people.npz", recognizer.digest).identify(others, threshold=0.4)

Vectors of two networks say nothing about each other, so a gallery is bound to its network by a digest.
Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import UserError
from engine.files import atomic_write
from engine.lock import locked

FORMAT = 1
"""Counts changes of what a gallery's file holds."""

SAME = 1e-4
"""Vectors that nowhere differ by more are of the same image: what rounding leaves is ten times less."""

WAIT = 30.0
"""Seconds in which another process should be done with changing a gallery."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """Whom a face is taken for.

    Attributes:
        name: None for unknown: the similarity is below the threshold.
        nearest: the most similar person, named or not.
        similarity: the best cosine with one of that person's vectors, in [-1, 1].
    """

    name: str | None
    nearest: str
    similarity: float


@dataclass(frozen=True)
class Gallery:
    """People, and vectors of their faces.

    Attributes:
        network: digest of the network that made the vectors.
        checkpoint: file of that network.
        names: N, whose face each vector is of.
        vectors: float32 [N, D], each of length 1.
        threshold: least similarity at which somebody is named; None where none was calibrated.
    """

    network: str
    checkpoint: Path
    names: tuple[str, ...]
    vectors: Vectors
    threshold: float | None = None

    @property
    def people(self) -> dict[str, int]:
        """Everybody, by name, and how many vectors there are of each."""
        return dict(sorted(Counter(self.names).items()))

    def enrolled(self, name: str, vectors: ArrayLike) -> Gallery:
        """The gallery with vectors [M, D] of somebody added; who is in it already gets more of them.

        A vector that this person has already, within `SAME`, is not added again. The name is kept as
        `person_name` writes it.

        Raises:
            UserError: the name is empty, or not of one line.
            ValueError: the vectors are of another length, not finite, or zero.
        """
        name, added = person_name(name), unit(vectors)
        known = self.vectors if len(self.names) else np.empty((0, added.shape[1]), np.float32)
        if added.shape[1] != known.shape[1]:
            raise ValueError(f"vectors have {added.shape[1]} values, those of the gallery {known.shape[1]}")
        theirs = [known[row] for row, other in enumerate(self.names) if other == name]
        new = []
        for vector in added:
            if not any(_same(vector, old) for old in theirs):
                theirs.append(vector)
                new.append(vector)
        grown = np.array(new, np.float32).reshape(-1, added.shape[1])
        names = (*self.names, *[name] * len(new))
        return dataclasses.replace(self, names=names, vectors=np.concatenate([known, grown]))

    def holders(self, vector: ArrayLike) -> list[str]:
        """Everybody who has this vector, [D], of length 1, within `SAME`."""
        return sorted(
            {name for name, old in zip(self.names, self.vectors, strict=True) if _same(vector, old)}
        )

    def removed(self, name: str) -> Gallery:
        """The gallery without somebody. Raises `UserError` for a name that is not in it."""
        name = name if name in self.names else person_name(name)
        if name not in self.names:
            raise UserError(f"{name} is not in the gallery; there are: {', '.join(self.people) or 'nobody'}")
        kept = [row for row, other in enumerate(self.names) if other != name]
        names = tuple(self.names[row] for row in kept)
        return dataclasses.replace(self, names=names, vectors=self.vectors[kept])

    def with_threshold(self, threshold: float) -> Gallery:
        """The gallery with this threshold. Raises `UserError` if it is outside [-1, 1]."""
        return dataclasses.replace(self, threshold=check_threshold(threshold))

    def similarities(self, vectors: ArrayLike) -> NDArray[np.float64]:
        """How alike faces, [M, D], are to everybody: the best cosines, float64 [M, len(people)].

        The columns are in the order of `people`.
        """
        cosines = unit(vectors).astype(np.float64) @ self.vectors.T.astype(np.float64)
        names = np.array(self.names, object)
        best = [cosines[:, names == name].max(1) for name in self.people]
        return np.clip(np.stack(best, 1), -1, 1)

    def identify(self, vectors: ArrayLike, threshold: float) -> list[Match]:
        """Who these faces, [M, D], are: the most similar person, if at least as similar as the threshold.

        Raises:
            UserError: nobody is enrolled, or the threshold is outside [-1, 1].
        """
        check_threshold(threshold)
        if not self.names:
            raise UserError("nobody is in the gallery; recognize.py enroll adds somebody")
        people, table = list(self.people), self.similarities(vectors)
        matches = []
        for row in table:
            best = int(row.argmax())
            similarity = float(row[best])
            matches.append(Match(people[best] if similarity >= threshold else None, people[best], similarity))
        return matches

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all. Raises `UserError` where it cannot be written."""
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(
                    file,
                    format=np.array(FORMAT),
                    network=np.array(self.network),
                    checkpoint=np.array(str(self.checkpoint)),
                    names=np.array(self.names, dtype=np.str_),
                    vectors=self.vectors,
                    threshold=np.array(np.nan if self.threshold is None else self.threshold),
                )
        except OSError as error:
            raise UserError(f"the gallery {path} cannot be written: {error.strerror or error}") from None


def empty_gallery(network: str, checkpoint: Path) -> Gallery:
    """A gallery of nobody, for a network of this digest, which is in that file."""
    return Gallery(network, checkpoint.absolute(), (), np.empty((0, 0), np.float32))


def is_there(path: Path) -> bool:
    """Whether there is such a gallery. Raises `UserError` where the system refuses to look for it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"the gallery {path} cannot be opened: {error.strerror or error}") from None
    return True


def load_gallery(path: str | Path, network: str | None = None) -> Gallery:
    """Read a gallery.

    Args:
        path: of the file.
        network: digest of the network that it is to be used with; None where none is.

    Raises:
        UserError: there is no such file, it is no gallery, or it is of another network.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if int(stored["format"]) != FORMAT:
                raise UserError(f"{path} has format {stored['format']}; this version reads format {FORMAT}")
            threshold = float(stored["threshold"])
            gallery = Gallery(
                str(stored["network"]),
                Path(str(stored["checkpoint"])),
                tuple(map(str, stored["names"])),
                np.asarray(stored["vectors"], np.float32),
                None if np.isnan(threshold) else check_threshold(threshold),
            )
            fits = gallery.vectors.ndim == 2 and len(gallery.vectors) == len(gallery.names)
            if not fits or not np.isfinite(gallery.vectors).all():
                raise ValueError("names and vectors do not fit")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"the gallery {path} cannot be opened: {error.strerror or error}") from None
    except Exception:
        # numpy, zipfile and zlib answer a damaged file with nearly any exception there is.
        raise UserError(f"{path} is damaged, or no gallery") from None
    if network is not None:
        check_network(gallery, path, network)
    return gallery


def check_network(gallery: Gallery, path: str | Path, network: str) -> None:
    """Raise `UserError` if the gallery, of that file, is not of the network with this digest."""
    if network != gallery.network:
        raise UserError(
            f"{path} is a gallery of another network ({gallery.network}, not {network}): its vectors mean "
            f"nothing here; use it with {gallery.checkpoint} as that was, or enroll everybody anew"
        )


def change_gallery(
    path: Path, change: Callable[[Gallery], Gallery], new: Gallery | None = None
) -> tuple[Gallery, Gallery]:
    """Read a gallery, change it and write it, while no other process does the same.

    Args:
        path: of the file.
        change: what to do with it; where it raises, the file stays as it was.
        new: what to begin with where there is no file.

    Returns:
        The gallery before and after.

    Raises:
        UserError: the file cannot be read or written, or another process keeps it.
    """
    if new is None:
        load_gallery(path)  # where there is none, no lock is left behind either
    with locked(path.parent, f"changing {path.name}", name=f".{path.name}.lock", timeout=WAIT):
        before = new if new is not None and not is_there(path) else load_gallery(path)
        after = change(before)
        after.save(path)
    return before, after


def person_name(name: str) -> str:
    """A name as galleries keep it, so that one person is not two who look alike in print.

    Letters with marks become single ones (NFC), and runs of spaces, wide and no-break ones too, one ordinary
    one, with none at the ends.

    Raises:
        UserError: the name is empty, or not of one line.
    """
    plain = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in name)
    if not plain.strip() or not plain.isprintable():
        raise UserError(f"{name!r} is no name: give one of printable letters")
    return " ".join(unicodedata.normalize("NFC", plain).split())


def check_threshold(threshold: float) -> float:
    """A threshold, as it is. Raises `UserError` if it is outside [-1, 1], as no cosine is."""
    if not -1 <= threshold <= 1:
        raise UserError(f"the threshold must be a cosine, from -1 to 1, not {threshold}")
    return float(threshold)


def unit(vectors: ArrayLike) -> Vectors:
    """Vectors [N, D], each divided by its length, float32. Raises `ValueError` for others and for zero."""
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2:
        raise ValueError(f"expected vectors [N, D], not {list(vectors.shape)}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ValueError("a vector is zero or not finite, and has no direction")
    return (vectors / lengths).astype(np.float32)


def _same(one: ArrayLike, other: ArrayLike) -> bool:
    return bool(np.abs(np.subtract(one, other)).max() <= SAME)
