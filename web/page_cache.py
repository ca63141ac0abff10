"""The generator of the explorer page: from an exported file, or from a run and then kept beside it.

Reading a checkpoint needs torch, whose import can take longer than all else between the command and the first
faces. So it is done once for each checkpoint.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from engine.errors import UserError
from engine.files import atomic_write
from engine.runs import find_checkpoint
from gan.export.page_weights import FORMAT, PageGenerator, page_weights
from gan.latent.directions import Directions, path_of

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator

FILE_NAME = "page.safetensors"


def load_page(run: Path | None, load_generator: Callable[[], tuple[LoadedGenerator, str]]) -> bytes:
    """The weights of the page of a run or an exported generator; see `page_weights`.

    Args:
        run: the run's folder, or the file.
        load_generator: loads its generator with torch, unless it was loaded before. Returns it and what
            `generator_state` was before it was loaded.

    Raises:
        UserError: there is no generator.
    """
    if run is not None and run.is_file() and (read := PageGenerator.read(run)) is not None:
        # It has all that this function reads of a generator.
        return page_weights(read, *_directions(read))  # type: ignore[arg-type]
    source = _source(run, checkpoint_state(run))
    if source and (kept := _kept(run / FILE_NAME, source)):
        return kept
    generator, state = load_generator()
    source = _source(run, state)  # training may have replaced the checkpoint since
    weights = page_weights(generator, *_directions(generator), source=source)
    if source:
        with contextlib.suppress(OSError), atomic_write(run / FILE_NAME, durable=False) as temporary:
            temporary.write_bytes(weights)
    return weights


def _directions(generator: LoadedGenerator) -> tuple[Directions | None, str]:
    """The generator's directions and, if they cannot be used, why."""
    try:
        return Directions.of(generator), ""
    except UserError as error:
        return None, str(error)


def generator_state(run: Path | None) -> str:
    """Size and time of the file that a generator is loaded from; empty if there is none.

    Args:
        run: the run's folder, or the generator's file.
    """
    try:
        return checkpoint_state(run) if run is None or run.is_dir() else _state(run)
    except OSError:
        return ""


def page_state(run: Path | None) -> str:
    """The state of all files that the page of a generator is made from; empty if there is no generator."""
    if run is None or run.is_dir():
        return _source(run, checkpoint_state(run))
    try:
        return f"{_state(run)} {_state(path_of(run))}"
    except OSError:
        return ""


def checkpoint_state(run: Path | None) -> str:
    """Size and time of the checkpoint that a run's generator is loaded from; empty if there is none."""
    if run is None or not run.is_dir():
        return ""
    try:
        return _state(find_checkpoint(run, None))
    except (UserError, OSError):
        return ""


def _source(run: Path | None, checkpoint: str) -> str:
    """What the page of a run is made from, which changes with its files; empty if there is no checkpoint."""
    if run is None or not checkpoint:
        return ""
    try:
        return " ".join([FORMAT, checkpoint, *(_state(file) for file in (path_of(run), run / "config.json"))])
    except OSError:
        return ""


def _state(file: Path) -> str:
    if not file.exists():
        return "-"
    state = file.stat()
    return f"{state.st_size}:{state.st_mtime_ns}"


def _kept(file: Path, source: str) -> bytes | None:
    try:
        with safe_open(file, "np") as opened:
            description = json.loads(opened.metadata()["page"])
        return file.read_bytes() if description["source"] == source else None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
