"""The exponential moving average over iterates: the loop's, and what a stopping rule judges."""

import torch
from torch import Tensor


def added(total: Tensor | None, x: Tensor, decay: float) -> Tensor:
    """Take an iterate into the sum d total + (1 - d) x, in place; None begins one.

    Args:
        total: the sum so far.
        x: the latest iterate, of its shape and dtype.
        decay: d, in [0, 1).
    """
    total = torch.zeros_like(x) if total is None else total
    return total.mul_(decay).add_(x, alpha=1 - decay)


def average(total: Tensor, decay: float, n: int) -> Tensor:
    """Return the average over n iterates, free of the bias of the sum's start: total / (1 - d^n)."""
    return total / (1 - decay**n)
