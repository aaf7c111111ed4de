"""CUDA graphs: one launch in place of the hundreds of kernels of an update."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # calls before the capture: libraries choose algorithms and take their workspaces


class Graphed:
    """Call a function of one tensor; on CUDA, from the fourth call on, replay it as a graph.

    A replay runs the kernels that the function launched when it was captured, on the same
    memory, so that it gives the same bits. The first calls run the function itself, on a stream
    of its own as capturing asks for. They count like all others: nothing is done for warm-up
    only, so nothing has to be undone.

    A test without CUDA puts its own `call_aside` and `capture` in the place of these.

    The function may change memory that lives on between calls (weights, the optimizer's state).
    It must not wait for the device, draw random numbers, or do at one call what it does not do at
    the next. Where it cannot be captured, that is said once and all functions run as they are.

    Args:
        function: maps a tensor to a tuple of tensors.

    Attributes:
        enabled: for all functions at once: False launches each kernel on its own.
        failed: graphs whose capture failed: the allocator may still ask for them.
    """

    enabled = True
    failed: list[torch.cuda.CUDAGraph] = []

    def __init__(self, function: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        self.function = function
        self.n_calls = 0
        self.replay: Callable[[], None] | None = None
        self.z: Tensor | None = None  # where the graph reads
        self.outputs: tuple[Tensor, ...] = ()  # where it writes
        self.stream: torch.cuda.Stream | None = None

    def __call__(self, z: Tensor) -> tuple[Tensor, ...]:
        """Call the function; what it returns is not written to by later calls.

        Args:
            z: of the same shape and dtype at each call.
        """
        if not Graphed.enabled or not z.is_cuda:
            return self.function(z)
        self.n_calls += 1
        if self.n_calls <= WARM_UP:
            return self.call_aside(z)
        if self.replay is None:
            failure = self._try_capture(z)
            if failure is not None:
                Graphed.enabled = False
                self.outputs = ()
                print(
                    f"note: no CUDA graph can be made ({failure}); each kernel is launched on its "
                    "own, which is slower",
                    file=sys.stderr,
                )
                return self.function(z)
        if z.shape != self.z.shape:
            raise ValueError(f"a graph of {tuple(self.z.shape)} was called with {tuple(z.shape)}")
        self.z.copy_(z)
        self.replay()
        return tuple(output.clone() for output in self.outputs)

    def call_aside(self, z: Tensor) -> tuple[Tensor, ...]:
        """Call the function on a stream of its own, as a capture asks for before it."""
        here = torch.cuda.current_stream(z.device)
        self.stream = self.stream or torch.cuda.Stream(z.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            outputs = self.function(z)
        here.wait_stream(self.stream)
        for output in outputs:
            output.record_stream(here)
        return outputs

    def _try_capture(self, z: Tensor) -> str | None:
        """Capture the function; where that fails, leave all as it was and say why."""
        here = torch.cuda.current_stream(z.device)
        try:
            self.capture(z)
        except RuntimeError as error:
            torch.cuda.set_stream(here)  # where the end of a failed capture raises, it stays aside
            return str(error.__context__ or error).splitlines()[0]
        return None

    def capture(self, z: Tensor) -> None:
        """Record the function's kernels without running them."""
        self.z = z.detach().clone()
        graph = torch.cuda.CUDAGraph()
        Graphed.failed.append(graph)
        with torch.cuda.device(z.device), torch.cuda.graph(graph):
            self.outputs = self.function(self.z)
        Graphed.failed.remove(graph)
        self.replay = graph.replay
