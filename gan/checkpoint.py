"""Checkpoints: written whole or not at all, read without running code, turned into generators."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from gan.config import Device, Settings
from gan.errors import UserError
from gan.files import is_file, replacing
from gan.hardware import choose_device, exact_float32
from gan.health import DivergedError
from gan.images import to_uint8
from gan.networks import Generator, make_networks
from gan.runs import (
    NEWEST,
    best_path,
    checkpoint_path,
    checkpoints,
    find_checkpoint,
    find_run,
    read_info,
    step_of,
)

FORMAT = 3
"""Counts changes of what a checkpoint holds."""
NETWORKS = ("generator", "discriminator", "average")
SAMPLING_BATCH = 16


class DamagedCheckpointError(UserError):
    """A checkpoint file that is cut short, or is none."""


@dataclass(frozen=True)
class LoadedGenerator:
    """A trained generator and where it comes from."""

    network: Generator
    run: Path
    checkpoint: Path
    step: int
    weights: str
    """`ema` for the averaged ones, `raw` for those of the last step."""
    settings: Settings

    @property
    def is_best(self) -> bool:
        """Whether these are the networks that the run keeps for their score."""
        return self.checkpoint == best_path(self.run)

    @property
    def seed(self) -> int:
        """The run's seed, from which its sample grids' latent vectors are drawn."""
        return self.settings.seed

    @property
    def latent_size(self) -> int:
        """Values in a latent vector."""
        return self.network.latent_size

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.network.image_size

    @torch.no_grad()
    def images(self, z: ArrayLike) -> NDArray[np.uint8]:
        """Latent vectors [N, latent_size], usually in [-1, 1], to images uint8 [N, 3, S, S].

        In float32 and with the stored batch-norm statistics: each image depends on its own vector
        alone, whatever stands beside it.
        """
        vectors = torch.from_numpy(np.array(z, dtype=np.float32))
        device = next(self.network.parameters()).device
        with exact_float32():
            parts = [to_uint8(self.network(part.to(device)).cpu()) for part in vectors.split(SAMPLING_BATCH)]
        return np.concatenate([np.asarray(part) for part in parts])


def save(
    run: Path, step: int, state: dict[str, Any], keep: int, networks: Sequence[str] = NETWORKS
) -> Path:
    """Write the checkpoint of a step, then remove all but the newest `keep` up to it.

    What is newer stems from an earlier sitting that this one could not go on from: it is damaged, and
    removed as well. So is what a kill in the middle of writing left.

    Args:
        run: the run's folder.
        step: steps done.
        state: nested dicts and lists of tensors, numbers and strings.
        keep: checkpoints to keep, at least 1.
        networks: what in `state` are weights, by name, or None; they must be finite.

    Returns:
        The file written.

    Raises:
        DivergedError: a weight is not finite; nothing was written.
        UserError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    for name in networks:
        for key, tensor in (state.get(name) or {}).items():
            if not torch.isfinite(tensor).all():
                raise DivergedError(f"a weight ({name}, {key}) was NaN or infinite at step {step}")
    path = checkpoint_path(run, step)
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save({"format": FORMAT, "step": step, **state}, file)
    except (OSError, RuntimeError) as error:
        # After a failed write torch may end with an error of its own about the file's length.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        kept = checkpoints(run)
        rest = f"the newest complete one is {kept[-1]}" if kept else "there is no earlier one"
        reason = cause.strerror or cause
        raise UserError(f"checkpoint {path} could not be written: {reason}; {rest}") from None
    _remove_others(path, keep)
    return path


def keep_as_best(checkpoint: Path) -> Path:
    """Have the run keep this checkpoint as its best, in place of the one before; where it is kept.

    Raises:
        OSError: it cannot be written; the one before is untouched.
    """
    best = checkpoint.with_name(best_path(checkpoint.parent.parent).name)
    _name_too(checkpoint, best)
    return best


def best_as_checkpoint(run: Path) -> Path | None:
    """Give a run's best networks the name of their step's checkpoint, under which they may no longer be kept.

    So training can go on from them. None where the run has no best that is whole.

    Raises:
        OSError: it cannot be written.
    """
    try:
        path = checkpoint_path(run, load(best_path(run))["step"])
    except UserError:
        return None
    if not path.exists():
        _name_too(best_path(run), path)
    return path


def load(path: Path, *, mapped: bool = True) -> dict[str, Any]:
    """Read a checkpoint; if `mapped`, its tensors stay in the file until they are used.

    Raises:
        DamagedCheckpointError: the file is cut short, is no checkpoint, or holds more than plain data.
        UserError: it cannot be opened, or another version of this project wrote it.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror or error}") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception:
        # torch's readers answer a damaged file with nearly any exception there is, OSError included.
        raise DamagedCheckpointError(f"{path} is damaged, or no checkpoint of this project") from None
    if not isinstance(state, dict) or "format" not in state:
        raise DamagedCheckpointError(f"{path} is no checkpoint of this project")
    if state["format"] != FORMAT:
        raise UserError(f"{path} has format {state['format']}; this version reads format {FORMAT}")
    return state


def load_newest(run: Path, *, mapped: bool = True) -> tuple[Path, dict[str, Any], list[Path]]:
    """The newest checkpoint that is whole, what it holds, and the damaged ones that are newer.

    Raises:
        UserError: there is none.
    """
    damaged: list[Path] = []
    for path in reversed(checkpoints(run)):
        try:
            return path, load(path, mapped=mapped), damaged
        except DamagedCheckpointError:
            damaged.append(path)
    find_checkpoint(run, NEWEST)  # says so where there is no checkpoint at all
    raise UserError(f"every checkpoint of {run} is damaged: {', '.join(path.name for path in damaged)}")


def load_newest_told(run: Path) -> tuple[Path, dict[str, Any]]:
    """As `load_newest`, in memory; damaged checkpoints that are newer are told of in a line each."""
    path, state, damaged = load_newest(run, mapped=False)
    for other in damaged:
        print(f"warning: {other} is damaged and left aside")
    return path, state


def load_generator(
    run: str | Path | None = None,
    checkpoint: str | int | Path | None = None,
    *,
    raw: bool = False,
    device: Device = "cpu",
) -> LoadedGenerator:
    """The trained generator of a run, ready to draw with.

    Args:
        run: its folder; the newest in outputs/ if None.
        checkpoint: a step, a file, `best` or `newest`; if None the best or, where there is none that
            is whole, the newest whole one.
        raw: take the weights of the last step even where averaged ones are kept.
        device: where to compute.

    Raises:
        UserError: no such run or checkpoint, a damaged one, or a device that is not there.
    """
    folder = find_run(run)
    settings = read_info(folder).settings
    path, state = load_chosen(folder, checkpoint)
    check_networks(folder, settings, path, state)
    weights = "raw" if raw or state.get("average") is None else "ema"
    network = Generator(settings.generator_widths, settings.latent_size, settings.image_size)
    network.load_state_dict(state["generator" if weights == "raw" else "average"])
    network = network.to(choose_device(device), memory_format=torch.channels_last)
    return LoadedGenerator(network.eval(), folder, path, state["step"], weights, settings)


def load_chosen(run: Path, checkpoint: str | int | Path | None) -> tuple[Path, dict[str, Any]]:
    """A run's checkpoint and what it holds.

    Args:
        run: the run's folder.
        checkpoint: as for `load_generator`.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
    """
    if checkpoint is None and is_file(best_path(run)):
        with contextlib.suppress(DamagedCheckpointError):
            return best_path(run), load(best_path(run))
    if checkpoint in (None, NEWEST):
        path, state, _ = load_newest(run)
        return path, state
    path = find_checkpoint(run, checkpoint)
    return path, load(path)


def load_from(path: Path) -> tuple[Path, dict[str, Any]]:
    """A checkpoint and what it holds, from its file or, as `load_chosen` chooses, from a run's folder.

    Raises:
        UserError: there is no such file or folder, it has no checkpoint, or that is damaged.
    """
    return load_chosen(path, None) if path.is_dir() else (path, load(path))


def check_networks(run: Path, settings: Settings, path: Path, state: dict[str, Any]) -> None:
    """Raise `UserError` where a checkpoint, as `load` read it, holds other networks than the settings tell.

    So it is after config.json was edited, and with a checkpoint of another run.
    """
    with torch.device("meta"):  # shapes alone: those of an edited file may not fit into any memory
        generator, discriminator = (_shapes(network.state_dict()) for network in make_networks(settings))
    fitting = {"generator": generator, "discriminator": discriminator}
    if state.get("average") is not None:
        fitting["average"] = generator
    if any(_shapes(state.get(name)) != shapes for name, shapes in fitting.items()):
        raise UserError(
            f"{path} holds networks of another shape than {run}/config.json tells: either that file was "
            "changed, which has to be undone, or the checkpoint is of another run"
        )


def _shapes(weights: Any) -> dict[str, Any] | None:
    if not isinstance(weights, dict):
        return None
    return {name: getattr(weight, "shape", None) for name, weight in weights.items()}


def _name_too(path: Path, name: Path) -> None:
    """Have a file stand under a second name, in place of what stood there."""
    if name.exists() and name.samefile(path):
        return  # to move one name of a file over another does nothing, and would leave the temporary one
    with replacing(name) as temporary:
        temporary.unlink()
        try:
            temporary.hardlink_to(path)  # takes no room while both names stand
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)


def _remove_others(newest: Path, keep: int) -> None:
    """Leave `newest` and the checkpoints before it, `keep` in all."""
    found = checkpoints(newest.parent.parent)
    history = [path for path in found if step_of(path) <= step_of(newest)]
    unfinished = newest.parent.glob(".*.pt")
    for path in {*found, *unfinished} - {*history[-keep:]}:
        path.unlink(missing_ok=True)
