"""A gallery: face embeddings of known people, by which they are identified, in one file without code.

    gallery = empty_gallery(recognizer.digest, checkpoint).enroll("Ada", embeddings)    # float32 [N, D]
    gallery.save("people.npz")
    load_gallery("people.npz", recognizer.digest).identify(others, threshold=0.4)

Embeddings of two networks cannot be compared, so a gallery is bound to its network by a digest. Nothing here
imports torch.
"""

from __future__ import annotations

import dataclasses
import json
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
from faces.recognition.assignment import choose
from faces.recognition.open_set import OpenSet, check_scale, from_json

FORMAT = 1
"""Version of the file format."""
DUPLICATE_TOLERANCE = 1e-4
"""Embeddings that nowhere differ by more are of the same image; rounding errors are ten times smaller."""
LOCK_TIMEOUT = 30.0
"""Seconds to wait for another process that is changing the gallery."""

Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """The identification of a face.

    Attributes:
        name: None (unknown) if the similarity is below the threshold, or the name given to another face.
        nearest: the named person; without a name, the most similar one.
        similarity: the best cosine with one of that person's embeddings, in [-1, 1].
    """

    name: str | None
    nearest: str
    similarity: float


@dataclass(frozen=True)
class Gallery:
    """People and their face embeddings. It is immutable; methods that change it return a new one.

    Attributes:
        network: digest of the network that computed the embeddings.
        checkpoint: file of that network.
        names: N names, one for each embedding.
        embeddings: float32 [N, D], each of length 1.
        threshold: minimum similarity for a name; None before calibration.
        open_set: what similarities mean when strangers are among the faces; None before calibration.
    """

    network: str
    checkpoint: Path
    names: tuple[str, ...]
    embeddings: Embeddings
    threshold: float | None = None
    open_set: OpenSet | None = None

    @property
    def people(self) -> dict[str, int]:
        """The number of embeddings of each person, sorted by name."""
        return dict(sorted(Counter(self.names).items()))

    def enroll(self, name: str, embeddings: ArrayLike) -> Gallery:
        """Add embeddings [M, D] of a person, who may be enrolled already.

        Embeddings that the person has already, within `DUPLICATE_TOLERANCE`, are skipped. The name is
        stored as `normalize_name` returns it.

        Raises:
            UserError: the name is invalid.
            ValueError: the embeddings are of another length, not finite, or zero.
        """
        name, given = normalize_name(name), unit_vectors(embeddings)
        length = given.shape[1]
        known = self.embeddings if len(self.names) else np.empty((0, length), np.float32)
        if length != known.shape[1]:
            raise ValueError(f"vectors have {length} values, those of the gallery {known.shape[1]}")
        own = [known[row] for row, other in enumerate(self.names) if other == name]
        new = []
        for embedding in given:
            if not any(_is_duplicate(embedding, other) for other in own):
                own.append(embedding)
                new.append(embedding)
        added = np.array(new, np.float32).reshape(-1, length)
        names = (*self.names, *[name] * len(new))
        return dataclasses.replace(self, names=names, embeddings=np.concatenate([known, added]))

    def people_with(self, embedding: ArrayLike) -> list[str]:
        """The people who have this embedding, [D], of length 1, within `DUPLICATE_TOLERANCE`."""
        pairs = zip(self.names, self.embeddings, strict=True)
        return sorted({name for name, other in pairs if _is_duplicate(embedding, other)})

    def remove(self, name: str) -> Gallery:
        """Remove a person. Raises `UserError` if the name is not in the gallery."""
        name = name if name in self.names else normalize_name(name)
        if name not in self.names:
            raise UserError(f"{name} is not in the gallery, which has: {', '.join(self.people) or 'nobody'}")
        rows = [row for row, other in enumerate(self.names) if other != name]
        names = tuple(self.names[row] for row in rows)
        return dataclasses.replace(self, names=names, embeddings=self.embeddings[rows])

    def rename(self, name: str, new: str) -> Gallery:
        """Give a person another name.

        Raises:
            UserError: the name is not in the gallery, or the new one is invalid or taken.
        """
        new = normalize_name(new)
        self.remove(name)  # raises if there is nobody of this name
        name = name if name in self.names else normalize_name(name)
        if new != name and new in self.names:
            raise UserError(f"{new} is in the gallery already: give another name")
        names = tuple(new if other == name else other for other in self.names)
        return dataclasses.replace(self, names=names)

    def with_threshold(self, threshold: float, open_set: OpenSet | None = None) -> Gallery:
        """Set the threshold and, if it is given, the measurement. Raises `UserError` outside [-1, 1]."""
        open_set = self.open_set if open_set is None else open_set
        return dataclasses.replace(self, threshold=check_threshold(threshold), open_set=open_set)

    def similarities(self, embeddings: ArrayLike) -> NDArray[np.float64]:
        """The best cosines of faces, [M, D], with each person: float64 [M, len(people)], in their order."""
        cosines = unit_vectors(embeddings).astype(np.float64) @ self.embeddings.T.astype(np.float64)
        names = np.array(self.names, object)
        best = [cosines[:, names == name].max(1) for name in self.people]
        return np.clip(np.stack(best, 1), -1, 1)

    def identify(self, embeddings: ArrayLike, threshold: float, *, once: bool = False) -> list[Match]:
        """The most similar person to each face, [M, D], if the similarity is at least the threshold.

        Args:
            embeddings: of the faces.
            threshold: minimum similarity.
            once: give each name to one face at most; see `faces.recognition.assignment.choose`.

        Raises:
            UserError: nobody is enrolled, or the threshold is outside [-1, 1].
        """
        check_threshold(threshold)
        if not self.names:
            raise UserError("the gallery is empty: add people with recognize.py enroll")
        people, similarities = list(self.people), self.similarities(embeddings)
        matches = []
        for row, chosen in zip(similarities, choose(similarities, threshold, once=once), strict=True):
            column = int(row.argmax()) if chosen is None else chosen
            name = None if chosen is None else people[chosen]
            matches.append(Match(name, people[column], float(row[column])))
        return matches

    def save(self, path: str | Path) -> None:
        """Write the file atomically. Raises `UserError` if it cannot be written."""
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(
                    file,
                    format=np.array(FORMAT),
                    network=np.array(self.network),
                    checkpoint=np.array(str(self.checkpoint)),
                    names=np.array(self.names, dtype=np.str_),
                    vectors=self.embeddings,
                    threshold=np.array(np.nan if self.threshold is None else self.threshold),
                    open_set=np.array(json.dumps(self.open_set and self.open_set.to_json())),
                )
        except OSError as error:
            raise UserError(f"the gallery {path} cannot be written: {error.strerror or error}") from None


def empty_gallery(network: str, checkpoint: Path) -> Gallery:
    """A gallery of nobody, for the network with this digest and checkpoint file."""
    return Gallery(network, checkpoint.absolute(), (), np.empty((0, 0), np.float32))


def gallery_exists(path: Path) -> bool:
    """Whether the file exists. Raises `UserError` if the system does not allow checking."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"the gallery {path} cannot be opened: {error.strerror or error}") from None
    return True


def load_gallery(path: str | Path, network: str | None = None) -> Gallery:
    """Load a gallery.

    Args:
        path: file to load.
        network: digest of the network to use it with; None to skip that check.

    Raises:
        UserError: the file does not exist, is not a gallery, or belongs to another network.
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
                from_json(json.loads(str(stored["open_set"]))) if "open_set" in stored else None,
            )
            check_scale(gallery.open_set, "cosine", Path(path))
            valid = gallery.embeddings.ndim == 2 and len(gallery.embeddings) == len(gallery.names)
            if not valid or not np.isfinite(gallery.embeddings).all():
                raise ValueError("names and embeddings do not match")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"the gallery {path} cannot be opened: {error.strerror or error}") from None
    except Exception:
        # numpy, zipfile and zlib raise nearly any exception for a damaged file.
        raise UserError(f"{path} is damaged, or not a gallery") from None
    if network is not None:
        check_network(gallery, path, network)
    return gallery


def check_network(gallery: Gallery, path: str | Path, network: str) -> None:
    """Raise `UserError` if the gallery at `path` is not of the network with this digest."""
    if network != gallery.network:
        raise UserError(
            f"{path} is a gallery of another network ({gallery.network}, not {network}), whose embeddings "
            f"cannot be compared: use it with the original {gallery.checkpoint}, or enroll everybody again"
        )


def update_gallery(
    path: Path, change: Callable[[Gallery], Gallery], new: Gallery | None = None
) -> tuple[Gallery, Gallery]:
    """Load a gallery, change it and save it, under a lock against other processes.

    Args:
        path: file of the gallery.
        change: returns the changed gallery; if it raises, the file is unchanged.
        new: the gallery to change if the file does not exist.

    Returns:
        The gallery before and after.

    Raises:
        UserError: the file cannot be read or written, or another process is changing it.
    """
    if new is None:
        load_gallery(path)  # before the lock file is created
    with locked(path.parent, f"changing {path.name}", name=f".{path.name}.lock", timeout=LOCK_TIMEOUT):
        before = new if new is not None and not gallery_exists(path) else load_gallery(path)
        after = change(before)
        after.save(path)
    return before, after


def normalize_name(name: str) -> str:
    """Normalise a name, so that names that look alike are equal.

    Combining characters are composed (NFC); runs of spaces, of any width, become one space, and those at the
    ends are removed.

    Raises:
        UserError: the name is empty or contains characters that are not printable.
    """
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in name)
    # Joiners, which the spelling of Persian and of Indic scripts needs, do not count as printable.
    plain = spaced.replace("\u200c", "").replace("\u200d", "")
    if not plain.strip() or not plain.isprintable():
        raise UserError(f"{name!r} is not a name: use printable characters")
    return " ".join(unicodedata.normalize("NFC", spaced).split())


def check_threshold(threshold: float) -> float:
    """Return the threshold, or raise `UserError` if it is outside [-1, 1]."""
    if not -1 <= threshold <= 1:
        raise UserError(f"the threshold must be a cosine, from -1 to 1, not {threshold}")
    return float(threshold)


def unit_vectors(vectors: ArrayLike) -> NDArray[np.float32]:
    """Vectors [N, D], each divided by its length, as float32.

    Raises:
        ValueError: the array has another shape, or a vector is zero or not finite.
    """
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2:
        raise ValueError(f"expected vectors [N, D], not {list(vectors.shape)}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ValueError("a vector is zero or not finite, and has no direction")
    return (vectors / lengths).astype(np.float32)


def _is_duplicate(first: ArrayLike, second: ArrayLike) -> bool:
    return bool(np.abs(np.subtract(first, second)).max() <= DUPLICATE_TOLERANCE)
