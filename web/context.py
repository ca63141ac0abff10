"""What the pages share: the run, the folders, and the one thread in which networks compute."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from engine.errors import UserError
from engine.settings import Device
from web.page_cache import generator_state

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator

P = ParamSpec("P")
Result = TypeVar("Result")


@dataclass
class Context:
    """The arguments of explore.py, and what is loaded once for all requests.

    Attributes:
        run: folder of a run of any kind, or a generator's .safetensors file; None if there is none.
        output: folder of all runs, also in its sub-folders.
        gallery: a gallery file beside those of the classifiers.
        detector: ONNX file of a YuNet; None for OpenCV's cascades.
        device: device of the networks.
        closing: set when the server stops, so that streams end.
    """

    run: Path | None = None
    output: Path = Path("outputs")
    gallery: Path | None = None
    detector: Path | None = None
    device: Device = "cpu"
    closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._preloading = False
        self._generator: LoadedGenerator | None = None
        self._source = ""
        self._generator_lock = threading.Lock()

    async def compute(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run a function that keeps a core busy, one at a time, while other requests are answered.

        A run may be training beside the server, so only one core is used: see `prepare_torch`.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

    def preload(self) -> None:
        """Import torch in the background, which takes seconds, so that a network is soon ready."""
        if not self._preloading:
            self._preloading = True
            # A daemon, so that Ctrl-C need not wait for it.
            threading.Thread(target=prepare_torch, daemon=True).start()

    def generator(self) -> LoadedGenerator:
        """The run's generator, loaded again when its file changes, which takes seconds: call it in `compute`.

        Raises:
            UserError: there is no run, or it has no generator.
        """
        return self.generator_and_source()[0]

    def generator_and_source(self) -> tuple[LoadedGenerator, str]:
        """See `generator`; and `web.page_cache.generator_state` of before it was loaded."""
        with self._generator_lock:
            # A run that still trains replaces its checkpoints while its faces are explored.
            state = generator_state(self.run)
            if self._generator is None or state != self._source:
                if self.run is None:
                    raise UserError(f"there is no run in {self.output}; `python train_gan.py` creates one")
                prepare_torch()
                self._source, self._generator = state, None
                if self.run.is_dir():
                    from gan.generator import load_generator

                    self._generator = load_generator(self.run, device=self.device)
                else:
                    from gan.export.generator_file import load_generator_file

                    self._generator = load_generator_file(self.run, self.output, self.device)
            return self._generator, self._source

    def close(self) -> None:
        """End the streams, and drop what waits for the thread."""
        self.closing.set()
        self._thread.shutdown(wait=False, cancel_futures=True)


def prepare_torch() -> None:
    """Import torch and set how it computes; call it in each thread that is about to use torch.

    A run may be training beside the server, so torch gets one core. Threads that used torch before keep their
    number, so each sets its own. TF32 is off for the whole process, as `engine.device.exact_float32` sets it
    for all threads and would, in two at once, not restore it in order.
    """
    import torch

    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
