"""Several processes that train one pair of networks: `torchrun --nproc-per-node N train_gan.py FOLDER`.

Each process has the same networks and a share of every batch; gradients are summed over all of them. The
first process, of rank 0, alone decides, writes and prints; the others follow. A training by one process is
a world of one, in which all of this does nothing.

Gradients are summed when they are complete, both networks' and the step's statistics in one piece. torch's
DistributedDataParallel gives the same gradients for the passes that a step is made of (it was tried), and
sums them during the backward pass. It was left out because it weighs all processes alike, whereas shares
of a batch may differ by an image; because it has to be told of every part that is accumulated; and because a
step could then be recorded as a CUDA graph only under its rules. docs/scale.md tells what that costs.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from engine.errors import UserError
from engine.runs import checkpoints

Result = TypeVar("Result")

LOST = 4
"""Exit code of a process whose training ended because another process was lost."""
PATIENCE = timedelta(days=7)
"""For which processes wait for what the first one does alone: decoding millions of images takes hours."""
JOINING = timedelta(minutes=5)
"""For which processes wait for each other at the start."""
TELLING = timedelta(seconds=5)
LAUNCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun, and whatever else starts processes that belong together, puts into the environment."""


class ProcessLostError(Exception):
    """Another process of the training has ended, or cannot be reached. The message is one line."""


class World:
    """The processes that train together, seen from one of them; of one process unless `joined` made it.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        local_size: of those on this machine.
        launched: whether something like torchrun started this process, which passes on signals to it.
    """

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self.local_rank, self.local_size = 0, 1
        self.launched = False
        self._control: dist.ProcessGroup | None = None
        self._launch: dist.Store | None = None
        self._leading = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy of a network is of the same world.
        return self

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process decides, writes and prints."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether there is no other process, or none that takes part in what this one does just now."""
        return self.size == 1 or self._leading

    def shard(self, batch_size: int) -> slice:
        """This process's share of a batch; shares differ by one image at most."""
        return slice(self.rank * batch_size // self.size, (self.rank + 1) * batch_size // self.size)

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors, on one device, by their sums over all processes: the same bits in each.

        Raises:
            ProcessLostError: another process is gone; so for all methods below.
        """
        if self.is_single:
            return
        together = torch.cat([tensor.flatten() for tensor in tensors])
        with _noticing_loss():
            dist.all_reduce(together)
        sums = together.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, sums, strict=True):
            tensor.copy_(part.view_as(tensor))

    def all_gather(self, values: Tensor) -> Tensor:
        """The values [...] of all processes, in the order of their ranks: [size, ...]."""
        if self.is_single:
            return values[None]
        parts = [torch.empty_like(values) for _ in range(self.size)]
        with _noticing_loss():
            dist.all_gather(parts, values.contiguous())
        return torch.stack(parts)

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """The largest of each of these numbers over all processes, nothing on a GPU being waited for."""
        if self.is_single:
            return list(numbers)
        largest = torch.tensor(numbers)
        with _noticing_loss():
            dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._control)
        return largest.tolist()

    def on_rank_zero(self, work: Callable[[], Result]) -> Result:
        """Have the first process do some work alone; all get its result, or the exception it ended with."""
        if self.is_single:
            return work()
        outcome: list[Any] = [None, None]
        if self.is_rank_zero:
            self._leading = True
            try:
                outcome[0] = work()
            except Exception as error:
                outcome[1] = error
            finally:
                self._leading = False
        with _noticing_loss():
            dist.broadcast_object_list(outcome, src=0, group=self._control)
        result, error = outcome
        if error is not None:
            raise error
        return result

    def rank_zero_first(self, work: Callable[[], Result]) -> Result:
        """Have all do the same work: the first process, then one on every other machine, then the rest.

        So what is to be decoded is decoded once, or once for each machine where they share no disk, and
        found in the cache by all others.

        Raises:
            UserError: any process had one; the same in all.
        """
        if self.is_single:
            return work()
        mine = 0 if self.is_rank_zero else 1 if self.local_rank == 0 else 2
        for turn in range(3):
            problem: str | None = None
            if turn == mine:
                try:
                    result = work()
                except UserError as error:
                    problem = str(error)
            self._agree_that_all_is_well(problem)
        return result

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the first one's values of these tensors, in place."""
        if self.is_single:
            return
        with _noticing_loss():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def check_equal(self, value: str, mistake: str) -> None:
        """Raise `UserError`, in all processes, where one has another value than the first."""
        if self.is_single:
            return
        firsts = self.on_rank_zero(lambda: value)
        self._agree_that_all_is_well(None if value == firsts else f"{mistake} (rank {self.rank})")

    def store_run(self, run: Path) -> None:
        """Have a restart of this launch's processes find the run that it makes."""
        if self._launch is not None and self.is_rank_zero:
            with _noticing_loss():
                self._launch.set("run", str(run.absolute()))

    def stored_run(self) -> Path | None:
        """The run that the processes of this launch were at before they were restarted; None if none."""
        if self._launch is None:
            return None
        with _noticing_loss():
            return Path(self._launch.get("run").decode()) if self._launch.check(["run"]) else None

    def _agree_that_all_is_well(self, problem: str | None) -> None:
        problems: list[str | None] = [None] * self.size
        with _noticing_loss():
            dist.all_gather_object(problems, problem, group=self._control)
        for told in problems:
            if told is not None:
                raise UserError(told)


@contextlib.contextmanager
def join_world() -> Iterator[World]:
    """The world this process belongs to, as torchrun tells it; one of its own where it was started by hand.

    In all processes but the first, nothing that the block prints is shown. A `UserError` in any of
    them is told once and ends all with exit code 2, the loss of a process with `LOST`. A process that
    cannot join the others, or waits longer than `JOINING` for them, says so in a line and ends with
    `LOST` too.

    Raises:
        SystemExit: after a mistake was told.
    """
    world = World()
    if not all(name in os.environ for name in LAUNCH):
        yield world
        return
    try:
        with _ending_unless_joined():
            told = _join(world)
    except ProcessLostError as error:
        _tell(f"{_who()} cannot join the others: {error}")
        _leave_at_once(LOST)
    try:
        with contextlib.ExitStack() as stack:
            if not world.is_rank_zero:
                nowhere = stack.enter_context(Path(os.devnull).open("w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            yield world
    except UserError as error:
        _tell_once(told, str(error))
        dist.destroy_process_group()
        raise SystemExit(2) from None
    except ProcessLostError as error:
        _tell_once(told, f"{error}{_how_to_go_on(world)}")
        _leave_at_once(LOST)
    except Exception:
        traceback.print_exc()
        _leave_at_once(1)
    else:
        dist.destroy_process_group()


@contextlib.contextmanager
def _ending_unless_joined() -> Iterator[None]:
    """End the process if the block takes longer than `JOINING`.

    torch has such limits for some of its waits; it then writes its own stack to the terminal. With what
    answers at that place but is no store, it waits for ever.
    """

    def end() -> None:
        _tell(f"{_who()} waited {JOINING.total_seconds():g} seconds for the others to join, in vain")
        _leave_at_once(LOST)

    timer = threading.Timer(JOINING.total_seconds(), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _join(world: World) -> dist.Store:
    """Take up the world's place among the others; the store that they share."""
    try:
        return _joined_store(world)
    except (ValueError, RuntimeError) as error:
        raise ProcessLostError(_first_line(error)) from error


def _joined_store(world: World) -> dist.Store:
    environment = os.environ
    world.launched = True
    world.rank, world.size, port = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if not (0 <= world.rank < world.size and 0 < port < 2**16):
        raise ValueError("there is no such rank or port")
    world.local_rank = int(environment.get("LOCAL_RANK", world.rank))
    world.local_size = int(environment.get("LOCAL_WORLD_SIZE", world.size))
    # torchrun's own store outlives the processes that it restarts; what else starts some has none.
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)
    store = dist.TCPStore(
        environment["MASTER_ADDR"],
        port,
        is_master=world.is_rank_zero and not hosted,
        timeout=10 * JOINING,  # this process ends before
    )
    world._launch = dist.PrefixStore("face-lab", store)
    attempt = dist.PrefixStore(environment.get("TORCHELASTIC_RESTART_COUNT", "0"), world._launch)
    gpus = torch.cuda.device_count() if dist.is_nccl_available() else 0
    if gpus:
        torch.cuda.set_device(world.local_rank % gpus)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo", store=attempt, rank=world.rank, world_size=world.size
    )
    world._control = dist.new_group(backend="gloo", timeout=PATIENCE)
    return attempt


@contextlib.contextmanager
def _noticing_loss() -> Iterator[None]:
    """Tell what gloo and NCCL raise when another process is gone from a mistake in the call."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo/" in str(error):
            raise ProcessLostError(
                f"another process of this training has ended ({_reason(error)})"
            ) from error
        raise


def _tell_once(store: dist.Store, message: str) -> None:
    """Print a mistake in one process of those that come here with one."""
    try:
        first = store.add("telling", 1) == 1
    except dist.DistError:
        first = True
    if first:
        _tell(message)
    with contextlib.suppress(dist.DistError):
        # torchrun ends all processes as soon as one has ended: that may not be before it is told.
        if first:
            store.set("told", "")
        else:
            store.wait(["told"], TELLING)


def _tell(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _who() -> str:
    """This process, as the environment has it."""
    rank, size, address, port = (os.environ[name] for name in LAUNCH)
    return f"process {rank} of {size}, at {address}:{port},"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _reason(error: BaseException) -> str:
    """What gloo or NCCL says first, without the place in its source."""
    return re.sub(r"^\[[^]]*] ?", "", _first_line(error)).partition(". ")[0]


def _how_to_go_on(world: World) -> str:
    with contextlib.suppress(ProcessLostError):
        if run := world.stored_run():
            if checkpoints(run):
                return f"; what {run}/checkpoints holds is whole: --resume {run} goes on from there"
            return f"; {run} has no checkpoint yet, so it has to begin anew"
    return ""


def _leave_at_once(exit_code: int) -> NoReturn:
    """End without waiting for anything: what is on a GPU may wait for ever for the other processes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
