"""What an iterative method tells its caller, and what the caller may do with it."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor


class Callback:
    """Accompany the steps of an iterative method; this one only counts them.

    A method says once what it must remember between steps, takes its steps from `outer`, and
    gives one record a step:

        callback.start(net=net, update=update, noise=generator)
        for step in callback.outer(steps):
            x = update(z)
            callback.record(step, x, update.terms)

    So logging, checkpoints, metrics and stopping stay outside the methods. `utils.loop.Loop` and
    `utils.stopping.Stopping` are such callbacks; a subclass that overrides `record` is enough to
    watch a method.
    """

    def start(self, z0: Tensor | None = None, **state: Any) -> Tensor | None:
        """Take the method's state back to where an interrupted run stood, if there was one.

        Args:
            z0: where a sequence of iterates starts, None for a method without one.
            state: everything else that decides the next step: tensors (restored in place),
                random generators, and what has state_dict() and load_state_dict().

        Returns:
            z0, or the last recorded iterate of the interrupted run.
        """
        return z0

    def prepare(self, n: int, what: str) -> Iterator[int]:
        """Yield what is left of 0..n-1, each a costly part of the state that the steps need.

        Args:
            n: how many parts there are.
            what: what one is called, such as "classical image".
        """
        yield from range(n)

    def outer(self, n: int) -> Iterator[int]:
        """Yield the steps that are left of 1..n."""
        yield from range(1, n + 1)

    def record(self, k: int, x: Tensor, terms: dict[str, Tensor]) -> None:
        """Take note of step k: its image x, detached, and the terms of its loss."""

    def chose(self, k: int) -> None:
        """Take note that the result is the image of step k, which is not the last."""
