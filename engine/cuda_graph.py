"""A training step as one CUDA graph: recorded once, then replayed with a single launch.

A step of a small network is a thousand kernels or more, of a few microseconds each, which a processor cannot
launch as fast as a GPU runs them. A graph holds them all.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 3
"""Calls that are made as they are before one is recorded: in the first, libraries choose their algorithms
and optimizers allocate their state, and a graph may hold neither."""


class CaptureError(Exception):
    """The GPU, or a library, refused the recording; the function's work was not done."""


class GraphedStep:
    """Calls a function on a GPU: at first as it is, then as a CUDA graph.

    The function may neither read a value back nor depend on anything but tensors that stay where they are:
    whatever else it looks at keeps the value it had at the recording. Where such a thing is to change (a
    learning rate, the place of a tensor), a new one has to be made.

    Args:
        function: does the same work at every call, and nothing that matters beside work on the GPU.
        random: what it draws from. A replay draws what a call would: seed it before each.
    """

    def __init__(self, function: Callable[[], None], random: torch.Generator) -> None:
        self._function, self._random = function, random
        self._calls = 0
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Do the function's work; it may still be under way when this returns.

        Raises:
            CaptureError: from then on neither this nor `random` can be used.
        """
        if self._calls < WARM_UP:
            self._call_aside()
        else:
            self._graph = self._graph or self._record()
            self._graph.replay()
        self._calls += 1

    def _call_aside(self) -> None:
        # On the default stream, autograd would bind what it keeps to a stream that cannot be recorded.
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            self._function()
        here.wait_stream(self._stream)

    def _record(self) -> torch.cuda.CUDAGraph:
        graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            graph.register_generator_state(self._random)
            # Of this thread alone: others, such as NCCL's watchdog, may call the GPU meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._function()
        except RuntimeError as error:
            torch.cuda.set_stream(here)  # older versions of torch stay on the graph's
            raise CaptureError(str(error).partition("\n")[0]) from error
        return graph
