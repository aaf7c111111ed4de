"""The loss term and the gradient step that all methods share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


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


class AdamUpdate:
    """Take one Adam step on a network's weights per call; Adam's state lives on between calls.

    Args:
        objective: maps the network input z to {"loss": scalar, other terms to log: scalars}.
        net: the network whose parameters are updated.
        lr: Adam's learning rate.
    """

    def __init__(
        self, objective: Callable[[Tensor], dict[str, Tensor]], net: nn.Module, lr: float
    ) -> None:
        self.objective = objective
        self.optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        self.terms: dict[str, Tensor] = {}  # of the latest call, on the device, before its step

    def __call__(self, z: Tensor) -> None:
        """Update the weights once at the fixed network input z."""
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.objective(z)
        terms["loss"].backward()
        self.optimizer.step()
        self.terms = {name: term.detach() for name, term in terms.items()}
