"""A training step as one CUDA graph: recorded once, then replayed with a single launch.

A step of a small network consists of a thousand or more kernels of a few microseconds each. A CPU cannot
launch them as fast as a GPU runs them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 3
"""Calls before the recording. In the first ones, libraries choose their algorithms and optimizers allocate
their state; a graph may contain neither."""


class CaptureError(Exception):
    """The GPU or a library refused the recording; the function has had no effect."""


class GraphedStep:
    """Calls a function on a GPU: directly at first, then as a CUDA graph.

    The function must not read a value back and must depend only on tensors that stay in place: anything else
    keeps the value it had at the recording. If it changes (a learning rate, the place of a tensor), create a
    new `GraphedStep`.

    Args:
        function: does the same work at every call, and has no side effects other than on the GPU.
        random: the generator it draws from. A replay draws what a call would: seed it before each.
    """

    def __init__(self, function: Callable[[], None], random: torch.Generator) -> None:
        self._function, self._random = function, random
        self._calls = 0
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Run the function, asynchronously.

        Raises:
            CaptureError: neither this object nor `random` can be used any more.
        """
        if self._calls < WARM_UP:
            self._call_on_side_stream()
        else:
            self._graph = self._graph or self._record()
            self._graph.replay()
        self._calls += 1

    def _call_on_side_stream(self) -> None:
        # On the default stream, autograd would bind its state to a stream that cannot be recorded.
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._function()
        current.wait_stream(self._stream)

    def _record(self) -> torch.cuda.CUDAGraph:
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            graph.register_generator_state(self._random)
            # Only of this thread: others, such as NCCL's watchdog, may call the GPU meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._function()
        except RuntimeError as error:
            torch.cuda.set_stream(current)  # older versions of torch stay on the graph's stream
            raise CaptureError(str(error).partition("\n")[0]) from error
        return graph
