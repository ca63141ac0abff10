"""Several processes that train the same networks: `torchrun --nproc-per-node N train_gan.py FOLDER`.

Each process has a copy of the networks and a shard of every batch; gradients are summed over all processes.
Only rank 0 decides, writes and prints. In a single process, none of this has an effect.

Gradients are summed once they are complete: both networks' and the step's statistics in one all-reduce.
DistributedDataParallel gives the same gradients and sums them during the backward pass. It is not used
because it weights all processes equally, although shards may differ by an image; because it needs to know of
every accumulated part; and because it restricts how a step can be recorded as a CUDA graph. docs/scale.md
gives the cost.
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
from engine.runs import has_checkpoint

Result = TypeVar("Result")

EXIT_PROCESS_LOST = 4
"""Exit code of a process that ended because another process of its run was lost."""
RANK_ZERO_TIMEOUT = timedelta(days=7)
"""Limit on what rank 0 does alone: decoding millions of images takes hours."""
JOIN_TIMEOUT = timedelta(minutes=5)
"""Limit on the time in which all processes start."""
REPORT_TIMEOUT = timedelta(seconds=5)
"""Limit on the time in which one process prints the error of all."""
LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torchrun and other launchers set."""


class ProcessLostError(Exception):
    """Another process of the run has ended or is unreachable. The message is one line."""


class World:
    """The processes that train together: this one alone, unless `join_world` connects it to others.

    Every method that communicates raises `ProcessLostError` if another process is gone.

    Attributes:
        rank: this process's rank, from 0.
        size: number of processes.
        local_rank: this process's rank on its machine.
        local_size: number of processes on this machine.
        launched: whether a launcher such as torchrun, which forwards signals, started this process.
    """

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self.local_rank, self.local_size = 0, 1
        self.launched = False
        self._control: dist.ProcessGroup | None = None
        self._launch_store: dist.Store | None = None
        self._is_alone = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy of a network belongs to the same world.
        return self

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process decides, writes and prints."""
        return self.rank == 0

    @property
    def is_single(self) -> bool:
        """Whether there is no other process, or this one is working alone in `on_rank_zero`."""
        return self.size == 1 or self._is_alone

    def shard(self, batch_size: int) -> slice:
        """This process's rows of a batch; sizes differ by one image at most."""
        return slice(self.rank * batch_size // self.size, (self.rank + 1) * batch_size // self.size)

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors, on one device, with their sums over all processes, equal bit for bit."""
        if self.is_single:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _detect_lost_process():
            dist.all_reduce(flat)
        sums = flat.split([tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view_as(tensor))

    def all_gather(self, values: Tensor) -> Tensor:
        """The values [...] of all processes, ordered by rank: [size, ...]."""
        if self.is_single:
            return values[None]
        parts = [torch.empty_like(values) for _ in range(self.size)]
        with _detect_lost_process():
            dist.all_gather(parts, values.contiguous())
        return torch.stack(parts)

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """The maximum of each number over all processes, without waiting for the GPU."""
        if self.is_single:
            return list(numbers)
        maxima = torch.tensor(numbers)
        with _detect_lost_process():
            dist.all_reduce(maxima, dist.ReduceOp.MAX, group=self._control)
        return maxima.tolist()

    def on_rank_zero(self, work: Callable[[], Result]) -> Result:
        """Run `work` on rank 0 only; all processes return its result or raise its exception."""
        if self.is_single:
            return work()
        result_and_error: list[Any] = [None, None]
        if self.is_rank_zero:
            self._is_alone = True
            try:
                result_and_error[0] = work()
            except Exception as error:
                result_and_error[1] = error
            finally:
                self._is_alone = False
        with _detect_lost_process():
            dist.broadcast_object_list(result_and_error, src=0, group=self._control)
        result, error = result_and_error
        if error is not None:
            raise error
        return result

    def rank_zero_first(self, work: Callable[[], Result]) -> Result:
        """Run `work` in all processes: first on rank 0, then once on every other machine, then in the rest.

        So images are decoded once, or once per machine if the machines share no disk, and all other processes
        find them in the cache.

        Raises:
            UserError: in all processes, if any process raised one.
        """
        if self.is_single:
            return work()
        own_round = 0 if self.is_rank_zero else 1 if self.local_rank == 0 else 2
        for current_round in range(3):
            problem: str | None = None
            if current_round == own_round:
                try:
                    result = work()
                except UserError as error:
                    problem = str(error)
            self._raise_any_problem(problem)
        return result

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Copy the values of these tensors from rank 0 to all processes, in place."""
        if self.is_single:
            return
        with _detect_lost_process():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def check_equal(self, value: str, message: str) -> None:
        """Raise `UserError` in all processes if the value of any of them differs from that of rank 0."""
        if self.is_single:
            return
        expected = self.on_rank_zero(lambda: value)
        self._raise_any_problem(None if value == expected else f"{message} (rank {self.rank})")

    def store_run(self, run: Path) -> None:
        """Let the processes find this run if the launcher restarts them."""
        if self._launch_store is not None and self.is_rank_zero:
            with _detect_lost_process():
                self._launch_store.set("run", str(run.absolute()))

    def stored_run(self) -> Path | None:
        """The run that these processes trained before the launcher restarted them; None if there is none."""
        if self._launch_store is None:
            return None
        with _detect_lost_process():
            return Path(self._launch_store.get("run").decode()) if self._launch_store.check(["run"]) else None

    def _raise_any_problem(self, problem: str | None) -> None:
        problems: list[str | None] = [None] * self.size
        with _detect_lost_process():
            dist.all_gather_object(problems, problem, group=self._control)
        for message in problems:
            if message is not None:
                raise UserError(message)


@contextlib.contextmanager
def join_world() -> Iterator[World]:
    """Join the other processes that the launcher started; a world of one without a launcher.

    Only rank 0 shows what the block prints. A `UserError` in any process is printed once and ends all with
    exit code 2. If a process is lost, or cannot join the others within `JOIN_TIMEOUT`, a line is printed and
    the exit code is `EXIT_PROCESS_LOST`.

    Raises:
        SystemExit: after a `UserError` was printed.
    """
    world = World()
    if not all(name in os.environ for name in LAUNCH_VARIABLES):
        yield world
        return
    try:
        with _limit_join_time():
            store = _join(world)
    except (ValueError, RuntimeError) as error:
        _print_error(f"{_describe_process()} cannot join the others: {_first_line(error)}")
        _exit_at_once(EXIT_PROCESS_LOST)
    try:
        with contextlib.ExitStack() as stack:
            if not world.is_rank_zero:
                devnull = stack.enter_context(Path(os.devnull).open("w"))
                stack.enter_context(contextlib.redirect_stdout(devnull))
                stack.enter_context(contextlib.redirect_stderr(devnull))
            yield world
    except UserError as error:
        _print_error_once(store, str(error))
        dist.destroy_process_group()
        raise SystemExit(2) from None
    except ProcessLostError as error:
        _print_error_once(store, f"{error}{_resume_hint(world)}")
        _exit_at_once(EXIT_PROCESS_LOST)
    except Exception:
        traceback.print_exc()
        _exit_at_once(1)
    else:
        dist.destroy_process_group()


@contextlib.contextmanager
def _limit_join_time() -> Iterator[None]:
    """Exit if the block takes longer than `JOIN_TIMEOUT`.

    torch's own timeouts print a stack trace and cover only some of its waits: if something else answers at
    the store's address, torch waits forever.
    """

    def give_up() -> None:
        seconds = JOIN_TIMEOUT.total_seconds()
        _print_error(f"{_describe_process()} waited {seconds:g} seconds for the others to join")
        _exit_at_once(EXIT_PROCESS_LOST)

    timer = threading.Timer(JOIN_TIMEOUT.total_seconds(), give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _join(world: World) -> dist.Store:
    """Set the world's rank and size, and connect to the others.

    Returns:
        A store that all processes share, until a restart.

    Raises:
        ValueError, RuntimeError: the environment is invalid, or torch cannot connect.
    """
    environment = os.environ
    world.launched = True
    world.rank, world.size, port = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if not (0 <= world.rank < world.size and 0 < port < 2**16):
        raise ValueError("rank or port out of range")
    world.local_rank = int(environment.get("LOCAL_RANK", world.rank))
    world.local_size = int(environment.get("LOCAL_WORLD_SIZE", world.size))
    # torchrun hosts a store that outlives the processes it restarts; other launchers do not.
    is_hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)
    store = dist.TCPStore(
        environment["MASTER_ADDR"],
        port,
        is_master=world.is_rank_zero and not is_hosted,
        timeout=10 * JOIN_TIMEOUT,  # never reached: see _limit_join_time
    )
    world._launch_store = dist.PrefixStore("face-lab", store)
    attempt = dist.PrefixStore(environment.get("TORCHELASTIC_RESTART_COUNT", "0"), world._launch_store)
    gpus = torch.cuda.device_count() if dist.is_nccl_available() else 0
    if gpus:
        torch.cuda.set_device(world.local_rank % gpus)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo", store=attempt, rank=world.rank, world_size=world.size
    )
    world._control = dist.new_group(backend="gloo", timeout=RANK_ZERO_TIMEOUT)
    return attempt


@contextlib.contextmanager
def _detect_lost_process() -> Iterator[None]:
    """Raise `ProcessLostError` for what gloo and NCCL raise if another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo/" in str(error):
            # The first sentence, without the location in the source of gloo or NCCL.
            reason = re.sub(r"^\[[^]]*] ?", "", _first_line(error)).partition(". ")[0]
            raise ProcessLostError(f"another process of this run has ended ({reason})") from error
        raise


def _print_error_once(store: dist.Store, message: str) -> None:
    """Print an error in only one of the processes that call this."""
    try:
        is_first = store.add("error reports", 1) == 1
    except dist.DistError:
        is_first = True
    if is_first:
        _print_error(message)
    with contextlib.suppress(dist.DistError):
        # torchrun ends all processes as soon as one has ended, so all wait until the error is printed.
        if is_first:
            store.set("error printed", "")
        else:
            store.wait(["error printed"], REPORT_TIMEOUT)


def _print_error(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _describe_process() -> str:
    rank, size, address, port = (os.environ[name] for name in LAUNCH_VARIABLES)
    return f"process {rank} of {size}, at {address}:{port},"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _resume_hint(world: World) -> str:
    with contextlib.suppress(ProcessLostError):
        if run := world.stored_run():
            if has_checkpoint(run):
                return f"; its checkpoints are intact: --resume {run} continues from the newest"
            return f"; {run} has no checkpoint yet, so training has to start again"
    return ""


def _exit_at_once(exit_code: int) -> NoReturn:
    """Exit without waiting: work on a GPU may wait forever for the other processes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
