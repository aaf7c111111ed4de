"""The loss terms and the gradient step that all methods share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def sqnorm(a: Tensor, b: Tensor) -> Tensor:
    """Compute ||a - b||_2^2, the sum of |a_i - b_i|^2 over all entries.

    Args:
        a, b: real or complex tensors of one shape and one dtype.

    Returns:
        Scalar real tensor.

    Raises:
        ValueError: shapes or dtypes differ; a loss never broadcasts.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(
            f"a loss compares tensors of one shape and dtype, got {a.dtype} {tuple(a.shape)} "
            f"and {b.dtype} {tuple(b.shape)}"
        )
    difference = a - b
    if difference.is_complex():
        difference = torch.view_as_real(difference)
    return difference.square().sum()


class Update:
    """Take one gradient step per call; the optimizer's state lives on between calls.

    Args:
        objective: maps the network input z to the image f(z), and to {"loss": scalar, other terms
            to log: scalars}.
        optimizer: of the network's weights, and of whatever else the objective depends on.
    """

    def __init__(
        self,
        objective: Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.terms: dict[str, Tensor] = {}  # of the latest call, on the device, before its step

    def __call__(self, z: Tensor) -> Tensor:
        """Step once at the network input z; return the image f(z) from before the step."""
        self.optimizer.zero_grad(set_to_none=True)
        x, terms = self.objective(z)
        terms["loss"].backward()
        self.optimizer.step()
        self.terms = {name: term.detach() for name, term in terms.items()}
        return x.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the optimizer's state."""
        self.optimizer.load_state_dict(state)
