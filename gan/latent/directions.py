"""Named directions of a generator's latent space: sliders with a meaning.

    directions = Directions.of(generator)                    # those stored beside its run or in its file
    z = directions.move(z, {"smile": 1.5, "glasses": -1})    # float32 [N, size], still in [-1, 1]
    images = generator.images(z)

A direction is a unit vector in the Gaussian coordinate u (see `gan.latent.gaussian`). Directions are stored
as directions.safetensors in the run's folder, with their scores in directions.json. Those of an exported file
FACES.safetensors are inside it, or beside it in FACES.directions.safetensors. They belong to one generator,
by the digest of its weights. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray

from engine.errors import UserError
from engine.files import atomic_write, is_file
from engine.runs import report_write_errors
from engine.tensor_file import read_tensors
from gan.config import is_generator_file
from gan.latent.gaussian import from_gaussian, to_gaussian
from gan.latent.vectors import Latents

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator

FORMAT = "face-lab directions 1"
FILE_NAME = "directions.safetensors"
KEY = "directions"
"""Name of the tensor and of the description in a file, which may be that of a generator."""
MAX_NAME_LENGTH = 40
RESERVED_NAMES = frozenset(
    (
        *("checkpoint", "classifiers", "device", "encoder", "exclude", "file", "fit", "help", "keep"),
        *("output", "paths", "raw", "recognizer", "run", "scale", "shift", "tune", "whole_image"),
        *("identity", "none"),
    )
)
"""Options of edit.py, where a direction is an option too, and the words of directions.py --keep."""
MAX_STRENGTH = 100.0
"""Far beyond the prior, along which one value in 15,000 is more than 4 from 0."""


@dataclass(frozen=True)
class Direction:
    """A direction and what is known about it.

    Attributes:
        vector: float64 [size], of length 1, in the Gaussian coordinate.
        source: what found it, such as `classifier 0003-faces-48px`.
        scores: what it does, as measured by another scorer; see docs/directions.md. None where it is unknown.
    """

    vector: NDArray[np.float64]
    source: str
    scores: dict[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Directions:
    """The named directions of one generator.

    Attributes:
        generator: digest of the generator's weights, `LoadedGenerator.digest`.
        by_name: the directions, in the order in which they are shown.
    """

    generator: str
    by_name: dict[str, Direction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.by_name:
            check_name(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names there are."""
        return tuple(self.by_name)

    def __getitem__(self, name: str) -> Direction:
        """The direction of this name; raises `UserError` if there is none."""
        self.check([name])
        return self.by_name[name]

    def check(self, names: Sequence[str]) -> None:
        """Raise `UserError` for the first name that does not exist; the message lists those that do."""
        for name in names:
            if name not in self.by_name:
                raise UserError(f"there is no direction {name}; {self.listing()}")

    def listing(self) -> str:
        """The names there are, for messages."""
        if not self.by_name:
            return "this generator has no directions yet; run directions.py to find some"
        return f"the directions of this generator are {', '.join(self.by_name)}"

    def move(self, z: ArrayLike, strengths: Mapping[str, float]) -> Latents:
        """Move latent vectors along directions.

        Args:
            z: float32 [size] or [N, size]. What a value exceeds [-1, 1] by, after a sum of faces for example,
                is set aside and added to the result.
            strengths: for each direction how far, in standard deviations of the prior; negative values move
                the other way.

        Returns:
            float32 of the same shape. Values that were in [-1, 1] stay there. With strengths of 0 it is z,
            bit for bit.

        Raises:
            UserError: a direction does not exist, or a strength is not finite or beyond `MAX_STRENGTH`.
        """
        z = np.asarray(z, np.float32)
        step = np.zeros(z.shape[-1])
        for name, strength in strengths.items():
            vector = self[name].vector
            if not abs(strength) <= MAX_STRENGTH:
                raise UserError(f"the strength of {name} must be -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}")
            step += strength * vector
        inside = np.clip(z.astype(np.float64), -1, 1)
        moved = from_gaussian(to_gaussian(inside) + step)
        return np.where(step == 0, z, moved + (z - inside)).astype(np.float32)

    def with_directions(self, added: Mapping[str, Direction]) -> Directions:
        """These directions and others, which replace those of the same name."""
        return Directions(self.generator, {**self.by_name, **added})

    def without(self, names: Sequence[str]) -> Directions:
        """These directions except some. Raises `UserError` if one does not exist."""
        self.check(names)
        return Directions(
            self.generator, {name: one for name, one in self.by_name.items() if name not in names}
        )

    def stamp(self, names: Iterable[str]) -> str:
        """Six hex digits that change with the directions of these names, as another search finds others."""
        digest = hashlib.sha256()
        for name in names:
            digest.update(self[name].vector.tobytes())
        return digest.hexdigest()[:6]

    def table(self) -> list[dict[str, Any]]:
        """Name, source and scores of each direction, as JSON values."""
        return [{"name": name, "source": one.source, **one.scores} for name, one in self.by_name.items()]

    def contents(self) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
        """The tensor and the description to store in a file, by `KEY`."""
        rows = [one.vector for one in self.by_name.values()]
        vectors = np.stack(rows) if rows else np.empty((0, 0))
        description = {"format": FORMAT, "generator": self.generator, "directions": self.table()}
        return {KEY: vectors}, {KEY: json.dumps(description)}

    def save(self, path: Path) -> None:
        """Write the directions to a .safetensors file, and their table to a .json file beside it.

        Raises:
            UserError: a file cannot be written.
        """
        tensors, metadata = self.contents()
        with report_write_errors(path):
            with atomic_write(path) as temporary:
                temporary.write_bytes(safetensors.numpy.save(tensors, metadata))
            with atomic_write(path.with_suffix(".json")) as temporary:
                temporary.write_text(json.dumps(self.table(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, generator: str | None = None) -> Directions:
        """Load the directions of a run or of a file.

        Args:
            path: a run's folder, an exported generator, or a file that `save` wrote.
            generator: digest of the generator that they must belong to; None for any.

        Raises:
            UserError: there are none, the file cannot be read or is damaged, or they belong to another
                generator.
        """
        return cls._load(find(Path(path)), generator)

    @classmethod
    def _load(cls, file: Path, generator: str | None) -> Directions:
        metadata, tensors = _read(file)
        if KEY not in metadata:
            raise UserError(f"{file} contains no directions; directions.py finds some")
        directions = _from_contents(file, metadata[KEY], tensors.get(KEY))
        if generator is not None and directions.generator != generator:
            raise UserError(
                f"{file} belongs to another generator, or to other weights of this one: run directions.py "
                "again with these"
            )
        return directions

    @classmethod
    def of(cls, generator: LoadedGenerator) -> Directions:
        """Load the directions of a generator; none if it has none yet.

        Of an exported file, those beside it count, unless only those inside it belong to its weights.

        Raises:
            UserError: the file cannot be read, is damaged, or belongs to another generator.
        """
        place = generator.checkpoint if generator.is_file else generator.run
        file = find(place)
        if generator.is_file and file != place and not _belong(file, generator.digest):
            # Another generator was written to the place of the one that they were found for.
            file = place if _belong(place, generator.digest) else file
        if not is_file(file) or (generator.is_file and file == place and KEY not in _read(file)[0]):
            return cls(generator.digest)
        directions = cls._load(file, generator.digest)
        if sizes := {len(one.vector) for one in directions.by_name.values()} - {generator.latent_size}:
            raise UserError(
                f"{file} is damaged: its directions have {sizes.pop()} values, not {generator.latent_size}"
            )
        return directions


def path_of(place: Path) -> Path:
    """Where the directions of a run's folder, or of an exported generator, are written."""
    return place.with_suffix(f".{FILE_NAME}") if is_generator_file(place) else place / FILE_NAME


def find(place: Path) -> Path:
    """The file with the directions of a run, of a generator (beside it, else itself), or a file of them."""
    beside = path_of(place)
    return place if is_generator_file(place) and not is_file(beside) else beside


def check_name(name: str) -> None:
    """Raise `UserError` unless a name can be written in a sum: letters, digits and underscores."""
    if not name.isidentifier() or len(name) > MAX_NAME_LENGTH:
        raise UserError(
            f"{name[:MAX_NAME_LENGTH]!r} is not a valid direction name: it must be a letter followed by "
            f"letters, digits or underscores, {MAX_NAME_LENGTH} at most"
        )


def check_new_name(name: str) -> None:
    """As `check_name`, for a direction that is made: raise `UserError` for `RESERVED_NAMES`, too."""
    check_name(name)
    if name.removeprefix("no_") in RESERVED_NAMES:
        raise UserError(
            f"a direction cannot be named {name}: edit.py or --keep reads that word as something else"
        )


def to_name(text: str) -> str:
    """The name of a direction for any text, such as a class: `no glasses` becomes `no_glasses`."""
    composed = unicodedata.normalize("NFKC", text)
    name = "_".join("".join(char if char.isalnum() else " " for char in composed).split())
    name = name if name[:1].isalpha() else f"class_{name}"
    return name[:MAX_NAME_LENGTH].rstrip("_")


def parse_strengths(words: Sequence[str]) -> dict[str, float]:
    """Parse `smile=1.5 glasses=-1`: for each direction how far.

    Raises:
        UserError: a word is not NAME=STRENGTH, or a name comes twice.
    """
    strengths: dict[str, float] = {}
    for word in words:
        name, equals, number = word.partition("=")
        try:
            strength = float(number)
        except ValueError:
            strength = math.nan
        if not equals or not name or not abs(strength) <= MAX_STRENGTH:
            raise UserError(
                f"{word!r} is not NAME=STRENGTH, such as smile=1.5, with a strength of -{MAX_STRENGTH:g} to "
                f"{MAX_STRENGTH:g}"
            )
        if name in strengths:
            raise UserError(f"the direction {name} is given twice")
        strengths[name] = strength
    return strengths


def _read(file: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """A file's metadata and, if they contain directions, their tensor."""
    return read_tensors(file, "np", names=[KEY])


def _belong(file: Path, generator: str) -> bool:
    """Whether a file contains directions of the generator with this digest."""
    try:
        metadata, tensors = _read(file)
        return _from_contents(file, metadata[KEY], tensors.get(KEY)).generator == generator
    except (UserError, KeyError):
        return False


def _from_contents(file: Path, description: str, vectors: NDArray[Any] | None) -> Directions:
    try:
        values = json.loads(description)
        if values["format"] != FORMAT:
            raise UserError(f"{file} has directions in another format; this version reads {FORMAT}")
        rows = [dict(row) for row in values["directions"]]
        named = [(str(row.pop("name")), str(row.pop("source")), row) for row in rows]
        generator = str(values["generator"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} is damaged: its description cannot be read ({error})") from None
    if vectors is None or vectors.ndim != 2 or len(vectors) != len(named) or vectors.dtype.kind != "f":
        raise UserError(f"{file} is damaged: its directions do not fit their description")
    vectors = vectors.astype(np.float64)
    if not (np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1e-3).all():
        raise UserError(f"{file} is damaged: a direction is not of length 1")
    return Directions(
        generator,
        {
            name: Direction(vector, source, row)
            for (name, source, row), vector in zip(named, vectors, strict=True)
        },
    )
